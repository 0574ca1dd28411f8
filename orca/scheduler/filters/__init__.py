"""Which nodes a pod may run on: one module a rule, named as kube-scheduler's plugin.

A rule looks at all nodes at once and tells which fail and why; nothing here prefers one node to another.
"""

from orca.scheduler.filters.base import Failure, Filter, Task
from orca.scheduler.filters.inter_pod_affinity import InterPodAffinity
from orca.scheduler.filters.node_affinity import NodeAffinity
from orca.scheduler.filters.node_name import NodeName
from orca.scheduler.filters.node_ports import NodePorts
from orca.scheduler.filters.node_resources_fit import NodeResourcesFit
from orca.scheduler.filters.node_unschedulable import NodeUnschedulable
from orca.scheduler.filters.node_volume_limits import NodeVolumeLimits
from orca.scheduler.filters.pod_topology_spread import PodTopologySpread
from orca.scheduler.filters.taint_toleration import TaintToleration
from orca.scheduler.filters.volume_binding import VolumeBinding, VolumeClaims, VolumeRestrictions, VolumeZone

FILTERS: tuple[Filter, ...] = (
    VolumeClaims(),
    NodeUnschedulable(),
    NodeName(),
    TaintToleration(),
    NodeAffinity(),
    NodePorts(),
    NodeResourcesFit(),
    VolumeRestrictions(),
    NodeVolumeLimits(),
    VolumeBinding(),
    VolumeZone(),
    PodTopologySpread(),
    InterPodAffinity(),
)
"""In the order of kube-scheduler: a node is told the first rule it fails. What concerns the pod alone comes before.
These are the default profile's."""

__all__ = ["FILTERS", "Failure", "Filter", "Task"]
