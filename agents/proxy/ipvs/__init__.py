"""Services by the kernel's IPVS, as kube-proxy's mode of that name does it.

``layout`` (model → virtual servers, addresses, set entries), ``wanted`` (all services together), ``plan`` (wanted and
actual → operations) and ``rules`` are pure; ``netlink``, ``ipset`` and ``host`` do; `IpvsBackend` joins them. Nothing
here decides which endpoints a service has: that is the model's.
"""

from agents.proxy.ipvs.backend import IpvsBackend

__all__ = ["IpvsBackend"]
