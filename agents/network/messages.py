"""pyroute2's classes of netlink messages, and nothing else of it.

Importing the package itself loads all it can do (a database of links, IPVS, wireless …): 160 modules, 7 MB that every
host's agent would hold for four classes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _unopened(package: str) -> Iterator[None]:
    """Inside, modules of a package are imported without running what the package itself imports."""
    spec = importlib.util.find_spec(package)
    if package in sys.modules or spec is None:
        yield
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        # Whoever wants the whole package gets it, with the modules that are there already.
        del sys.modules[package]


with _unopened("pyroute2"):
    from pyroute2.netlink import nlmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = ["ifaddrmsg", "ifinfmsg", "ndmsg", "nlmsg", "rtmsg"]
