"""Services on a host: a pure model of rules and the backends that write it into the kernel.

Pod addresses and routes belong to ``agents.network``. `Proxy` (``runner.py``) is the way in.
"""

from agents.proxy.runner import Proxy, ProxyModeError, check_mode, remove_rules

__all__ = ["Proxy", "ProxyModeError", "check_mode", "remove_rules"]
