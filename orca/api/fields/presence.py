"""What upstream's Go types say about presence and OpenAPI does not.

A struct held by value is always there, if only empty: writing into it adds its fields, never itself. Ownership shows
the difference (``f:strategy`` has no ``"."``, ``f:rollingUpdate`` has one). Reference: k8s.io/api ``types.go`` of every
group, k8s.io/client-go ``applyconfigurations/internal``.
"""

from __future__ import annotations

_BY_VALUE = """
APIService spec status
CSIDriver spec
CSINode spec
CertificateSigningRequest spec status
Container resources
ContainerStatus state lastState
CronJob spec status
CronJobSpec jobTemplate
CustomResourceDefinition spec status
CustomResourceDefinitionSpec names
CustomResourceDefinitionStatus acceptedNames
DaemonSet spec status
DaemonSetSpec template updateStrategy
Deployment spec status
DeploymentSpec template strategy
DeviceClass spec
Endpoint conditions
EphemeralContainer resources
Event involvedObject source regarding deprecatedSource
FlowSchema spec status
FlowSchemaSpec priorityLevelConfiguration
HTTPIngressPath backend
HorizontalPodAutoscaler spec status
HorizontalPodAutoscalerSpec scaleTargetRef
IPAddress spec
Ingress spec status
IngressClass spec
IngressServiceBackend port
IngressStatus loadBalancer
Job spec status
JobSpec template
JobTemplateSpec spec
Lease spec
LimitRange spec
LimitedPriorityLevelConfiguration limitResponse
MutatingAdmissionPolicy spec
MutatingAdmissionPolicyBinding spec
MutatingWebhook clientConfig
Namespace spec status
NetworkPolicy spec
NetworkPolicySpec podSelector
Node spec status
NodeDaemonEndpoints kubeletEndpoint
NodeStatus daemonEndpoints nodeInfo
PersistentVolume spec status
PersistentVolumeClaim spec status
PersistentVolumeClaimSpec resources
PersistentVolumeClaimTemplate spec
Pod spec status
PodCondition lastProbeTime lastTransitionTime
PodDisruptionBudget spec status
PodTemplate template
PodTemplateSpec spec
PriorityLevelConfiguration spec status
ReplicaSet spec status
ReplicaSetSpec template
ReplicationController spec status
ResourceClaim spec status
ResourceClaimSpec devices
ResourceClaimTemplate spec
ResourceClaimTemplateSpec spec
ResourceQuota spec status
ResourceSlice spec
ResourceSliceSpec pool
RoleBinding roleRef
ClusterRoleBinding roleRef
Scale spec status
Service spec status
ServiceCIDR spec status
ServiceStatus loadBalancer
StatefulSet spec status
StatefulSetSpec template updateStrategy
ValidatingAdmissionPolicy spec status
ValidatingAdmissionPolicyBinding spec
ValidatingWebhook clientConfig
VolumeAttachment spec status
VolumeAttachmentSpec source
"""
BY_VALUE: dict[str, frozenset[str]] = {
    line.split()[0]: frozenset(line.split()[1:]) for line in _BY_VALUE.strip().splitlines()
}
"""Type -> its fields that are structs (also times) held by value, ``metadata``, which is always so, aside."""

KEY_DEFAULTS: dict[str, dict[str, str]] = {
    "ContainerPort": {"protocol": "TCP"},
    "ServicePort": {"protocol": "TCP"},
}
"""Type -> defaults of the fields that are keys of lists of it; the OpenAPI document leaves defaults out."""
