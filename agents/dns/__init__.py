"""Cluster DNS, answered on every host from an in-memory zone.

Never reads the API itself on a query. `DnsServer` (``server.py``) is the way in.
"""

from agents.dns.server import DnsServer

__all__ = ["DnsServer"]
