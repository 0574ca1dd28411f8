"""Nodes: are they alive, what does that mean for their pods, which pod addresses are theirs.

`health` decides from heartbeats, `taints` from conditions, `lifecycle` carries both out; `eviction` removes pods that
do not tolerate a NoExecute taint; `ipam` gives every node its podCIDR.
"""

from orca.controllers.nodes.eviction import TaintEvictionController
from orca.controllers.nodes.ipam import NodeIpamController
from orca.controllers.nodes.lifecycle import NodeLifecycleController

__all__ = ["NodeIpamController", "NodeLifecycleController", "TaintEvictionController"]
