"""Services on a host: a pure model of rules and the backends that write it into the kernel.

Pod addresses and routes belong to ``agents.network``. `Proxy` (``runner.py``) is the way in.
"""

from agents.proxy.backend import BackendError, HostView
from agents.proxy.modes import ProxyModeError, check_mode, mode_problem, remove_rules
from agents.proxy.runner import Proxy

__all__ = ["BackendError", "HostView", "Proxy", "ProxyModeError", "check_mode", "mode_problem", "remove_rules"]
