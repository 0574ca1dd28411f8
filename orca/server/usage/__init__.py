"""``metrics.k8s.io``: what nodes and pods use now, asked of the hosts when somebody asks here.

``samples`` reads what a host tells and works out rates, ``collector`` asks hosts and keeps answers for some seconds,
``objects`` makes NodeMetrics and PodMetrics, ``pages`` hands documents to autoscalers. Nothing runs while nobody asks.
Somebody's own metrics server takes over by its APIService.
"""

from orca.server.usage.collector import Collector
from orca.server.usage.objects import UsageKinds
from orca.server.usage.pages import Pages

__all__ = ["Collector", "Pages", "UsageKinds"]
