"""Every GA kind of Kubernetes v1.36, one row each, in the order discovery shows them."""

from orca.api.resources import ALL_VERBS, READ_WRITE, Resource, ResourceTable, Subresource

STATUS = Subresource("status", READ_WRITE)
SCALE = Subresource("scale", READ_WRITE, "autoscaling", "v1", "Scale", "io.k8s.api.autoscaling.v1.Scale")
_PROXY_VERBS = ("create", "delete", "get", "patch", "update")
_STREAM = ("create", "get")
_ALL = ("all",)
_EXTENSIONS = ("api-extensions",)
_CREATE = ("create",)
EVENT_TTL = 3600

_PREFIXES = {
    "": "io.k8s.api.core",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    "flowcontrol.apiserver.k8s.io": "io.k8s.api.flowcontrol",
    "metrics.k8s.io": "io.k8s.metrics.pkg.apis.metrics",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
}
_ROWS: list[Resource] = []


def _row(
    api_version: str,
    kind: str,
    plural: str,
    *short_names: str,
    namespaced: bool = False,
    categories: tuple[str, ...] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
    subresources: tuple[Subresource, ...] = (),
    ttl: int | None = None,
    virtual: bool = False,
    storage: str = "",
    stored_as: str = "",
    warning: str = "",
) -> Resource:
    group, _, version = api_version.rpartition("/")
    prefix = _PREFIXES.get(group) or "io.k8s.api." + group.partition(".")[0]
    row = Resource(
        group=group,
        version=version,
        plural=plural,
        singular=kind.lower(),
        kind=kind,
        namespaced=namespaced,
        definition=f"{prefix}.{version}.{kind}",
        storage=storage or f"/registry/{group or 'core'}/{plural}",
        short_names=short_names,
        categories=categories,
        verbs=verbs,
        subresources=subresources,
        ttl=ttl,
        virtual=virtual,
        stored_as=stored_as,
        warning=warning,
    )
    _ROWS.append(row)
    return row


def _namespaced(api_version: str, kind: str, plural: str, *short_names: str, **more: object) -> Resource:
    return _row(api_version, kind, plural, *short_names, namespaced=True, **more)  # type: ignore[arg-type]


def _review(api_version: str, kind: str, plural: str, *, namespaced: bool = False) -> Resource:
    return _row(api_version, kind, plural, namespaced=namespaced, verbs=_CREATE, virtual=True)


# core/v1
BINDINGS = _review("v1", "Binding", "bindings", namespaced=True)
COMPONENTSTATUSES = _row(
    "v1",
    "ComponentStatus",
    "componentstatuses",
    "cs",
    verbs=("get", "list"),
    virtual=True,
    warning="v1 ComponentStatus is deprecated in v1.19+",
)
CONFIGMAPS = _namespaced("v1", "ConfigMap", "configmaps", "cm")
ENDPOINTS = _namespaced(
    "v1",
    "Endpoints",
    "endpoints",
    "ep",
    warning="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)
EVENTS = _namespaced("v1", "Event", "events", "ev", ttl=EVENT_TTL, storage="/registry/core/events", stored_as="v1")
LIMITRANGES = _namespaced("v1", "LimitRange", "limitranges", "limits")
NAMESPACES = _row(
    "v1",
    "Namespace",
    "namespaces",
    "ns",
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=(Subresource("finalize", ("update",)), STATUS),
)
NODES = _row("v1", "Node", "nodes", "no", subresources=(Subresource("proxy", _PROXY_VERBS), STATUS))
PERSISTENTVOLUMECLAIMS = _namespaced(
    "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", subresources=(STATUS,)
)
PERSISTENTVOLUMES = _row("v1", "PersistentVolume", "persistentvolumes", "pv", subresources=(STATUS,))
PODS = _namespaced(
    "v1",
    "Pod",
    "pods",
    "po",
    categories=_ALL,
    subresources=(
        Subresource("attach", _STREAM, "", "v1", "PodAttachOptions"),
        Subresource("binding", _CREATE, "", "v1", "Binding", "io.k8s.api.core.v1.Binding"),
        Subresource("ephemeralcontainers", READ_WRITE),
        Subresource(
            "eviction", _CREATE, "policy", "v1", "Eviction", "io.k8s.api.policy.v1.Eviction", also=("policy/v1beta1",)
        ),
        Subresource("exec", _STREAM, "", "v1", "PodExecOptions"),
        Subresource("log", ("get",)),
        Subresource("portforward", _STREAM, "", "v1", "PodPortForwardOptions"),
        Subresource("proxy", _PROXY_VERBS, "", "v1", "PodProxyOptions"),
        Subresource("resize", READ_WRITE),
        STATUS,
    ),
)
PODTEMPLATES = _namespaced("v1", "PodTemplate", "podtemplates")
REPLICATIONCONTROLLERS = _namespaced(
    "v1", "ReplicationController", "replicationcontrollers", "rc", categories=_ALL, subresources=(SCALE, STATUS)
)
RESOURCEQUOTAS = _namespaced("v1", "ResourceQuota", "resourcequotas", "quota", subresources=(STATUS,))
SECRETS = _namespaced("v1", "Secret", "secrets")
SERVICEACCOUNTS = _namespaced(
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    "sa",
    subresources=(
        Subresource(
            "token",
            _CREATE,
            "authentication.k8s.io",
            "v1",
            "TokenRequest",
            "io.k8s.api.authentication.v1.TokenRequest",
        ),
    ),
)
SERVICES = _namespaced(
    "v1",
    "Service",
    "services",
    "svc",
    categories=_ALL,
    subresources=(Subresource("proxy", _PROXY_VERBS, "", "v1", "ServiceProxyOptions"), STATUS),
)

# apiregistration, admissionregistration, apiextensions
APISERVICES = _row(
    "apiregistration.k8s.io/v1", "APIService", "apiservices", categories=_EXTENSIONS, subresources=(STATUS,)
)
_ADMISSION = "admissionregistration.k8s.io/v1"
MUTATINGADMISSIONPOLICIES = _row(
    _ADMISSION, "MutatingAdmissionPolicy", "mutatingadmissionpolicies", categories=_EXTENSIONS
)
MUTATINGADMISSIONPOLICYBINDINGS = _row(
    _ADMISSION, "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", categories=_EXTENSIONS
)
MUTATINGWEBHOOKCONFIGURATIONS = _row(
    _ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", categories=_EXTENSIONS
)
VALIDATINGADMISSIONPOLICIES = _row(
    _ADMISSION,
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    categories=_EXTENSIONS,
    subresources=(STATUS,),
)
VALIDATINGADMISSIONPOLICYBINDINGS = _row(
    _ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", categories=_EXTENSIONS
)
VALIDATINGWEBHOOKCONFIGURATIONS = _row(
    _ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", categories=_EXTENSIONS
)
CUSTOMRESOURCEDEFINITIONS = _row(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "crd",
    "crds",
    categories=_EXTENSIONS,
    subresources=(STATUS,),
)

# apps/v1
CONTROLLERREVISIONS = _namespaced("apps/v1", "ControllerRevision", "controllerrevisions")
DAEMONSETS = _namespaced("apps/v1", "DaemonSet", "daemonsets", "ds", categories=_ALL, subresources=(STATUS,))
DEPLOYMENTS = _namespaced(
    "apps/v1", "Deployment", "deployments", "deploy", categories=_ALL, subresources=(SCALE, STATUS)
)
REPLICASETS = _namespaced("apps/v1", "ReplicaSet", "replicasets", "rs", categories=_ALL, subresources=(SCALE, STATUS))
STATEFULSETS = _namespaced(
    "apps/v1", "StatefulSet", "statefulsets", "sts", categories=_ALL, subresources=(SCALE, STATUS)
)

# events.k8s.io shares the core events' storage
EVENTS_V1 = _namespaced(
    "events.k8s.io/v1", "Event", "events", "ev", ttl=EVENT_TTL, storage=EVENTS.storage, stored_as="v1"
)

# authentication, authorization
TOKENREVIEWS = _review("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
SELFSUBJECTREVIEWS = _review("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews")
_AUTHORIZATION = "authorization.k8s.io/v1"
LOCALSUBJECTACCESSREVIEWS = _review(
    _AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", namespaced=True
)
SELFSUBJECTACCESSREVIEWS = _review(_AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews")
SELFSUBJECTRULESREVIEWS = _review(_AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews")
SUBJECTACCESSREVIEWS = _review(_AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews")

# autoscaling: v2 is preferred and stored
HORIZONTALPODAUTOSCALERS = _namespaced(
    "autoscaling/v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    categories=_ALL,
    subresources=(STATUS,),
)
HORIZONTALPODAUTOSCALERS_V1 = _namespaced(
    "autoscaling/v1",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    categories=_ALL,
    subresources=(STATUS,),
    stored_as="autoscaling/v2",
)

# batch/v1, certificates
CRONJOBS = _namespaced("batch/v1", "CronJob", "cronjobs", "cj", categories=_ALL, subresources=(STATUS,))
JOBS = _namespaced("batch/v1", "Job", "jobs", categories=_ALL, subresources=(STATUS,))
CERTIFICATESIGNINGREQUESTS = _row(
    "certificates.k8s.io/v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "csr",
    subresources=(Subresource("approval", READ_WRITE), STATUS),
)

# coordination, discovery, flowcontrol
LEASES = _namespaced("coordination.k8s.io/v1", "Lease", "leases")
ENDPOINTSLICES = _namespaced("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
_FLOW = "flowcontrol.apiserver.k8s.io/v1"
FLOWSCHEMAS = _row(_FLOW, "FlowSchema", "flowschemas", subresources=(STATUS,))
PRIORITYLEVELCONFIGURATIONS = _row(
    _FLOW, "PriorityLevelConfiguration", "prioritylevelconfigurations", subresources=(STATUS,)
)

# networking, node, policy
_NETWORKING = "networking.k8s.io/v1"
INGRESSCLASSES = _row(_NETWORKING, "IngressClass", "ingressclasses")
INGRESSES = _namespaced(_NETWORKING, "Ingress", "ingresses", "ing", subresources=(STATUS,))
IPADDRESSES = _row(_NETWORKING, "IPAddress", "ipaddresses", "ip")
NETWORKPOLICIES = _namespaced(_NETWORKING, "NetworkPolicy", "networkpolicies", "netpol")
SERVICECIDRS = _row(_NETWORKING, "ServiceCIDR", "servicecidrs", subresources=(STATUS,))
RUNTIMECLASSES = _row("node.k8s.io/v1", "RuntimeClass", "runtimeclasses")
PODDISRUPTIONBUDGETS = _namespaced(
    "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", subresources=(STATUS,)
)

# rbac
_RBAC = "rbac.authorization.k8s.io/v1"
CLUSTERROLEBINDINGS = _row(_RBAC, "ClusterRoleBinding", "clusterrolebindings")
CLUSTERROLES = _row(_RBAC, "ClusterRole", "clusterroles")
ROLEBINDINGS = _namespaced(_RBAC, "RoleBinding", "rolebindings")
ROLES = _namespaced(_RBAC, "Role", "roles")

# resource.k8s.io (dynamic resource allocation), scheduling
_DRA = "resource.k8s.io/v1"
DEVICECLASSES = _row(_DRA, "DeviceClass", "deviceclasses")
RESOURCECLAIMS = _namespaced(_DRA, "ResourceClaim", "resourceclaims", subresources=(STATUS,))
RESOURCECLAIMTEMPLATES = _namespaced(_DRA, "ResourceClaimTemplate", "resourceclaimtemplates")
RESOURCESLICES = _row(_DRA, "ResourceSlice", "resourceslices")
PRIORITYCLASSES = _row("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "pc")

# storage
_STORAGE = "storage.k8s.io/v1"
CSIDRIVERS = _row(_STORAGE, "CSIDriver", "csidrivers")
CSINODES = _row(_STORAGE, "CSINode", "csinodes")
CSISTORAGECAPACITIES = _namespaced(_STORAGE, "CSIStorageCapacity", "csistoragecapacities")
STORAGECLASSES = _row(_STORAGE, "StorageClass", "storageclasses", "sc")
VOLUMEATTACHMENTS = _row(_STORAGE, "VolumeAttachment", "volumeattachments", subresources=(STATUS,))
VOLUMEATTRIBUTESCLASSES = _row(_STORAGE, "VolumeAttributesClass", "volumeattributesclasses", "vac")

# metrics.k8s.io: what a metrics server has, at hand without one
_METRICS = "metrics.k8s.io/v1beta1"
NODEMETRICS = _row(_METRICS, "NodeMetrics", "nodes", verbs=("get", "list"), virtual=True)
PODMETRICS = _namespaced(_METRICS, "PodMetrics", "pods", verbs=("get", "list"), virtual=True)

BUILTIN = ResourceTable(tuple(_ROWS))
"""All rows. Servers that add CRDs take ``BUILTIN.copy()``."""
