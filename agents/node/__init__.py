"""The Node object of this host: join, registration, lease, capacity, conditions.

Pods are not its business.
"""
