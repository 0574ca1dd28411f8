"""Defaults of every kind, as upstream's defaulting functions set them.

Pure functions on one object; what depends on other objects belongs to ``orca.admission``.
"""
