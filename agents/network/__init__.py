"""Bridge, veth pairs, pod addresses, ways between hosts (routes, a tunnel), host ports, bandwidth; or CNI plugins.

Services are ``agents.proxy``; names are ``agents.dns``. `PodNetwork` (``pods.py``) is the way in; ``iptables.py`` is
shared with the proxy, which writes its rules through the same seam.
"""

from agents.network.iptables import Iptables, IptablesError
from agents.network.making import AnyNetwork, make_network, remove_networks
from agents.network.options import NetworkOptions, NetworkPlugin
from agents.network.pods import PodNetwork
from agents.network.publishing import node_annotations
from agents.network.routes import NetworkBackend
from agents.network.wiring import NetworkError

__all__ = [
    "AnyNetwork",
    "Iptables",
    "IptablesError",
    "NetworkBackend",
    "NetworkError",
    "NetworkOptions",
    "NetworkPlugin",
    "PodNetwork",
    "make_network",
    "node_annotations",
    "remove_networks",
]
