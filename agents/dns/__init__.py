"""Cluster DNS, answered on every host from an in-memory zone.

Never reads the API itself on a query.
"""
