"""Bridge, veth pairs, pod addresses, routes between hosts, host ports.

Services are ``agents.proxy``; names are ``agents.dns``. `PodNetwork` (``pods.py``) is the way in; ``iptables.py`` is
shared with the proxy, which writes its rules through the same seam.
"""

from agents.network.iptables import Iptables, IptablesError
from agents.network.pods import PodNetwork
from agents.network.wiring import NetworkError

__all__ = ["Iptables", "IptablesError", "NetworkError", "PodNetwork"]
