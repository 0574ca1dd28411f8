"""Which plugins run, in which order: as upstream's recommended order."""

from orca.admission.chain import Chain, Cluster
from orca.admission.default_classes import DefaultIngressClass, DefaultStorageClass
from orca.admission.default_toleration_seconds import DefaultTolerationSeconds
from orca.admission.limit_ranger import LimitRanger
from orca.admission.namespace_lifecycle import NamespaceLifecycle
from orca.admission.node_restriction import NodeRestriction
from orca.admission.priority import Priority
from orca.admission.service_account import ServiceAccount
from orca.admission.taint_nodes import TaintNodesByCondition
from orca.client.clock import Clock, SystemClock


def default_chain(cluster: Cluster, *, clock: Clock | None = None) -> Chain:
    """The plugins every server runs."""
    return Chain(
        [
            NamespaceLifecycle(cluster),
            LimitRanger(cluster),
            ServiceAccount(cluster, clock or SystemClock()),
            NodeRestriction(cluster),
            TaintNodesByCondition(),
            Priority(cluster),
            DefaultTolerationSeconds(),
            DefaultStorageClass(cluster),
            DefaultIngressClass(cluster),
        ]
    )
