"""Services of type LoadBalancer without a cloud: addresses from pools, and which host announces each.

``pools`` reads the configuration, ``addresses`` chooses addresses, ``announcers`` chooses hosts (all pure);
``controller`` writes what they say into Services. Announcing itself is the agents' (``agents.balancer``), and so are
the rules that a packet to an address meets on every host.
"""

from orca.controllers.loadbalancers.controller import LoadBalancerController

__all__ = ["LoadBalancerController"]
