"""PodTopologyLabels: a pod that is bound gets the zone and region of its node as labels, for the downward API.

Reference: k8s.io/kubernetes ``plugin/pkg/admission/podtopologylabels``.
"""

from orca.admission.chain import CREATE, Attributes, Cluster
from orca.api.builtin import NODES, PODS
from orca.api.objects import Obj, labels

TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels:
    """As upstream's plugin of this name: on bindings, and on pods that are created with a node."""

    kinds = frozenset({PODS})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def admit(self, attrs: Attributes) -> None:
        """Adds labels."""
        if attrs.obj is None:
            return
        if attrs.of(PODS, CREATE):
            self._label(attrs.obj, (attrs.obj.get("spec") or {}).get("nodeName") or "")
        elif attrs.of(PODS, CREATE, subresource="binding"):
            self._label(attrs.obj, (attrs.obj.get("target") or {}).get("name") or "")

    def _label(self, obj: Obj, node_name: str) -> None:
        node = self._cluster.peek(NODES, "", node_name) if node_name else None
        if node is None:
            return
        found = {key: labels(node)[key] for key in TOPOLOGY if key in labels(node)}
        if found:
            metadata = obj.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **found}
