"""Which plugins run, in which order: as upstream's recommended order."""

from orca.admission.certificates import CertificateApproval, CertificateSubjectRestriction
from orca.admission.chain import Chain, Cluster
from orca.admission.claim_resize import PersistentVolumeClaimResize
from orca.admission.default_classes import DefaultIngressClass, DefaultStorageClass
from orca.admission.default_toleration_seconds import DefaultTolerationSeconds
from orca.admission.first_look import FirstLook
from orca.admission.limit_ranger import LimitRanger
from orca.admission.namespace_lifecycle import NamespaceLifecycle
from orca.admission.no_effect import NoEffect
from orca.admission.node_restriction import NodeRestriction
from orca.admission.pod_security import PodSecurity
from orca.admission.policies import MutatingPolicies, Shared, ValidatingPolicies
from orca.admission.priority import Priority
from orca.admission.rbac_escalation import RbacEscalation
from orca.admission.resource_quota import ResourceQuota
from orca.admission.runtime_class import RuntimeClass
from orca.admission.service_account import ServiceAccount
from orca.admission.storage_protection import StorageObjectInUseProtection
from orca.admission.taint_nodes import TaintNodesByCondition
from orca.admission.topology_labels import PodTopologyLabels
from orca.admission.webhooks import Calling, MutatingWebhooks, ValidatingWebhooks
from orca.auth.authorization import Authorizer
from orca.client.clock import Clock, SystemClock


def default_chain(
    cluster: Cluster,
    *,
    authorizer: Authorizer | None = None,
    clock: Clock | None = None,
    webhooks: Calling | None = None,
) -> Chain:
    """The plugins every server runs; those that ask who may do what need ``authorizer``, those that call out
    ``webhooks``."""
    clock = clock or SystemClock()
    outside: tuple[object, ...] = ()
    if webhooks:
        policies = Shared(cluster, webhooks.table, webhooks.authorizer, webhooks.convert)
        outside = (
            MutatingPolicies(policies),
            MutatingWebhooks(webhooks),
            ValidatingPolicies(policies),
            ValidatingWebhooks(webhooks),
        )
    first = FirstLook(cluster, clock)
    guarded = (CertificateApproval(authorizer), RbacEscalation(cluster, authorizer)) if authorizer else ()
    return Chain(
        [
            NamespaceLifecycle(cluster, clock),
            LimitRanger(cluster, first),
            ServiceAccount(cluster, clock),
            NodeRestriction(cluster, authorizer),
            TaintNodesByCondition(),
            PodSecurity(cluster),
            Priority(cluster),
            DefaultTolerationSeconds(),
            DefaultStorageClass(cluster),
            StorageObjectInUseProtection(),
            PersistentVolumeClaimResize(cluster),
            RuntimeClass(cluster),
            *guarded,
            CertificateSubjectRestriction(),
            DefaultIngressClass(cluster),
            PodTopologyLabels(cluster),
            NoEffect(),
            # What is not ours comes late, so that it sees what the others made of the object.
            *outside,
            # Last: it keeps account of what is written.
            ResourceQuota(cluster, first),
        ]
    )
