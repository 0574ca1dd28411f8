"""Answers on the network for LoadBalancer addresses that this host announces: ARP, and neighbour discovery for IPv6.

`Announcer` is the way in. Who announces what is decided by a controller, what becomes of the packets by the rules of
``agents.proxy``: an address is on no interface here, so neither other hosts' kernels nor this one's see it as its own.
"""

from agents.balancer.announcer import Announcer

__all__ = ["Announcer"]
