"""Services as iptables rules, in kube-proxy's layout, for IPv4 and IPv6: `IptablesBackend`.

``layout.py`` renders one service port (pure), ``writer.py`` keeps one family's rules in the kernel.
"""

from agents.proxy.iptables.backend import IptablesBackend

__all__ = ["IptablesBackend"]
