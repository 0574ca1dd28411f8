"""Services in tables of our own, ``ip orca-proxy`` and ``ip6 orca-proxy``: `NftablesBackend`.

What a packet costs does not depend on how many services there are: one look at a map of all addresses finds the chain
for so many endpoints, one look at a map of all endpoints, with a random number in the key, finds the endpoint. What a
change costs does not either: a service is a few elements of these maps, and only they are written, over netlink.

``layout.py``: the tables (pure). ``render.py``: one service port as elements (pure). ``state.py``: all services of a
family and what a change of some means for the kernel (pure). ``reading.py``: what the kernel has. ``backend.py``: the
rest.
"""

from agents.proxy.nftables.backend import NftablesBackend

__all__ = ["NftablesBackend"]
