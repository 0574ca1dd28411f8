"""Which of the possible nodes is best: one function a rule, 0 to 100 for each row, weighted as kube-scheduler does.

Nothing here excludes a node.
"""

from orca.scheduler.scores.affinity import is_drawn, node_affinity, pod_affinity
from orca.scheduler.scores.base import Score
from orca.scheduler.scores.images import has_images, image_locality
from orca.scheduler.scores.resources import allocation, balanced_allocation
from orca.scheduler.scores.spread import spreads, topology_spread
from orca.scheduler.scores.taints import taint_toleration

SCORES: tuple[Score, ...] = (
    Score("TaintToleration", 3, taint_toleration, lambda _, snapshot: bool(snapshot.taints["PreferNoSchedule"])),
    Score("NodeAffinity", 2, node_affinity, lambda task, _: bool(task.shape.preferred_nodes)),
    Score("PodTopologySpread", 2, topology_spread, spreads),
    Score("InterPodAffinity", 2, pod_affinity, is_drawn),
    Score("NodeResourcesFit", 1, allocation),
    Score("NodeResourcesBalancedAllocation", 1, balanced_allocation),
    Score("ImageLocality", 1, image_locality, has_images),
)

__all__ = ["SCORES", "Score"]
