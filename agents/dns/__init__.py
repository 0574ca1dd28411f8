"""Cluster DNS, answered on every host from an in-memory zone.

Never reads the API itself on a query. `DnsServer` (``server.py``) is the way in.
"""

from agents.dns.nameservers import settings_informer
from agents.dns.pages import METRICS_PATH, DnsPages
from agents.dns.server import DnsServer

__all__ = ["METRICS_PATH", "DnsPages", "DnsServer", "settings_informer"]
