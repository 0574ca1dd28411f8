"""What upstream's controllers may do, as facts: ``system:controller:<name>`` for the ServiceAccount ``<name>``.

Orca's own controllers are the server itself and need none of these. They are here because charts and add-ons bind,
extend or run as these roles. Reference: k8s.io/kubernetes ``plugin/pkg/auth/authorizer/rbac/bootstrappolicy``, with the
feature gates that v1.36 has on by default.
"""

PREFIX = "system:controller:"

Rule = tuple[str, str, str] | tuple[str, str, str, str]
"""(verbs, API groups, resources, names), each separated by blanks; the core group is ``core``."""

_READ = "get list watch"
_SEE = "list watch"
_EVENTS: Rule = ("create patch update", "core events.k8s.io", "events")
_BOTH = "apps extensions"
_OWN_PODS: Rule = ("create delete list patch watch", "core", "pods")
_SIGNERS = "kube-apiserver-client kube-apiserver-client-kubelet kubelet-serving legacy-unknown"

CONTROLLERS: dict[str, tuple[Rule, ...]] = {
    "attachdetach-controller": (
        (_SEE, "core", "persistentvolumeclaims persistentvolumes"),
        (_READ, "core", "nodes"),
        ("patch update", "core", "nodes/status"),
        (_SEE, "core", "pods"),
        _EVENTS,
        (f"create delete {_READ}", "storage.k8s.io", "volumeattachments"),
        (_READ, "storage.k8s.io", "csidrivers"),
        (_READ, "storage.k8s.io", "csinodes"),
    ),
    "certificate-controller": (
        (f"delete {_READ}", "certificates.k8s.io", "certificatesigningrequests"),
        ("update", "certificates.k8s.io", "certificatesigningrequests/approval certificatesigningrequests/status"),
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
        ("sign", "certificates.k8s.io", "signers", " ".join(f"kubernetes.io/{one}" for one in _SIGNERS.split())),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
        _EVENTS,
    ),
    "clusterrole-aggregation-controller": (
        (f"escalate patch update {_READ}", "rbac.authorization.k8s.io", "clusterroles"),
    ),
    "cronjob-controller": (
        (f"update {_READ}", "batch", "cronjobs"),
        (f"create delete patch update {_READ}", "batch", "jobs"),
        ("update", "batch", "cronjobs/status"),
        ("update", "batch", "cronjobs/finalizers"),
        ("delete list watch", "core", "pods"),
        _EVENTS,
    ),
    "daemon-set-controller": (
        (_READ, _BOTH, "daemonsets"),
        ("update", _BOTH, "daemonsets/status"),
        ("update", _BOTH, "daemonsets/finalizers"),
        (_SEE, "core", "nodes"),
        _OWN_PODS,
        ("create", "core", "pods/binding"),
        (f"create delete patch update {_READ}", "apps", "controllerrevisions"),
        _EVENTS,
    ),
    "deployment-controller": (
        (f"update {_READ}", _BOTH, "deployments"),
        ("update", _BOTH, "deployments/status"),
        ("update", _BOTH, "deployments/finalizers"),
        (f"create delete patch update {_READ}", _BOTH, "replicasets"),
        (f"update {_READ}", "core", "pods"),
        _EVENTS,
    ),
    "device-taint-eviction-controller": (
        (f"delete {_READ}", "core", "pods"),
        ("patch update", "core", "pods/status"),
        (_READ, "resource.k8s.io", "resourceclaims"),
        (_READ, "resource.k8s.io", "resourceslices"),
        (_READ, "resource.k8s.io", "deviceclasses"),
        (_READ, "resource.k8s.io", "devicetaintrules"),
        _EVENTS,
    ),
    "disruption-controller": (
        (_READ, _BOTH, "deployments"),
        (_READ, _BOTH, "replicasets"),
        (_READ, "core", "replicationcontrollers"),
        (_READ, "policy", "poddisruptionbudgets"),
        (_READ, "apps", "statefulsets"),
        ("update", "policy", "poddisruptionbudgets/status"),
        ("patch update", "core", "pods/status"),
        ("get", "*", "*/scale"),
        _EVENTS,
    ),
    "endpoint-controller": (
        (_READ, "core", "pods services"),
        (f"create delete update {_READ}", "core", "endpoints"),
        ("create", "core", "endpoints/restricted"),
        _EVENTS,
    ),
    "endpointslice-controller": (
        (_READ, "core", "nodes pods services"),
        ("update", "core", "services/finalizers"),
        (f"create delete update {_READ}", "discovery.k8s.io", "endpointslices"),
        _EVENTS,
    ),
    "endpointslicemirroring-controller": (
        (_READ, "core", "endpoints services"),
        ("update", "core", "services/finalizers"),
        ("update", "core", "endpoints/finalizers"),
        (f"create delete update {_READ}", "discovery.k8s.io", "endpointslices"),
        _EVENTS,
    ),
    "ephemeral-volume-controller": (
        (_READ, "core", "pods"),
        ("update", "core", "pods/finalizers"),
        (f"create {_READ}", "core", "persistentvolumeclaims"),
        _EVENTS,
    ),
    "expand-controller": (
        (f"patch update {_READ}", "core", "persistentvolumes"),
        ("patch update", "core", "persistentvolumeclaims/status"),
        (_READ, "core", "persistentvolumeclaims"),
        _EVENTS,
    ),
    "generic-garbage-collector": ((f"delete patch update {_READ}", "*", "*"), _EVENTS),
    "horizontal-pod-autoscaler": (
        (_READ, "autoscaling", "horizontalpodautoscalers"),
        ("update", "autoscaling", "horizontalpodautoscalers/status"),
        ("get update", "*", "*/scale"),
        (_SEE, "core", "pods"),
        (_SEE, "metrics.k8s.io", "pods"),
        (_READ, "custom.metrics.k8s.io", "*"),
        (_READ, "external.metrics.k8s.io", "*"),
        _EVENTS,
    ),
    "job-controller": (
        (f"patch update {_READ}", "batch", "jobs"),
        ("update", "batch", "jobs/status"),
        ("update", "batch", "jobs/finalizers"),
        _OWN_PODS,
        _EVENTS,
    ),
    "legacy-service-account-token-cleaner": (
        ("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
        ("delete patch", "core", "secrets"),
    ),
    "namespace-controller": (
        (f"delete {_READ}", "core", "namespaces"),
        ("update", "core", "namespaces/finalize namespaces/status"),
        (f"delete deletecollection {_READ}", "*", "*"),
    ),
    "node-controller": (
        (f"delete patch update {_READ}", "core", "nodes"),
        ("patch update", "core", "nodes/status"),
        ("patch update", "core", "pods/status"),
        (f"delete {_READ}", "core", "pods"),
        _EVENTS,
    ),
    "persistent-volume-binder": (
        (f"create delete update {_READ}", "core", "persistentvolumes"),
        ("update", "core", "persistentvolumes/status"),
        (f"update {_READ}", "core", "persistentvolumeclaims"),
        ("update", "core", "persistentvolumeclaims/status"),
        (f"create delete {_READ}", "core", "pods"),
        (_READ, "storage.k8s.io", "storageclasses"),
        (_SEE, "core", "nodes"),
        _EVENTS,
        ("watch", "core", "events"),
    ),
    "pod-garbage-collector": (
        ("delete list watch", "core", "pods"),
        (_READ, "core", "nodes"),
        ("patch", "core", "pods/status"),
    ),
    "pv-protection-controller": ((f"update {_READ}", "core", "persistentvolumes"), _EVENTS),
    "pvc-protection-controller": (
        (f"update {_READ}", "core", "persistentvolumeclaims"),
        (_READ, "core", "pods"),
        _EVENTS,
    ),
    "replicaset-controller": (
        (f"update {_READ}", _BOTH, "replicasets"),
        ("update", _BOTH, "replicasets/status"),
        ("update", _BOTH, "replicasets/finalizers"),
        _OWN_PODS,
        _EVENTS,
    ),
    "replication-controller": (
        (f"update {_READ}", "core", "replicationcontrollers"),
        ("update", "core", "replicationcontrollers/status"),
        ("update", "core", "replicationcontrollers/finalizers"),
        _OWN_PODS,
        _EVENTS,
    ),
    "resource-claim-controller": (
        (_READ, "core", "pods"),
        ("update", "core", "pods/finalizers"),
        (f"create delete {_READ}", "resource.k8s.io", "resourceclaims"),
        ("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
        ("patch update", "core", "pods/status"),
        _EVENTS,
    ),
    "resourcequota-controller": ((_SEE, "*", "*"), ("update", "core", "resourcequotas/status"), _EVENTS),
    "root-ca-cert-publisher": (("create update", "core", "configmaps"), _EVENTS),
    "route-controller": ((_SEE, "core", "nodes"), ("patch", "core", "nodes/status"), _EVENTS),
    "selinux-warning-controller": (
        _EVENTS,
        (_READ, "core", "persistentvolumes"),
        (_READ, "core", "persistentvolumeclaims"),
        (_READ, "core", "pods"),
        (_READ, "storage.k8s.io", "csidrivers"),
    ),
    "service-account-controller": (("create", "core", "serviceaccounts"), _EVENTS),
    "service-cidrs-controller": (
        (f"patch update {_READ}", "networking.k8s.io", "servicecidrs"),
        ("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
        ("patch update", "networking.k8s.io", "servicecidrs/status"),
        (_READ, "networking.k8s.io", "ipaddresses"),
        _EVENTS,
    ),
    "service-controller": (
        (_READ, "core", "services"),
        ("patch update", "core", "services/status"),
        (_SEE, "core", "nodes"),
        _EVENTS,
    ),
    "statefulset-controller": (
        (_SEE, "core", "pods"),
        (_READ, "apps", "statefulsets"),
        ("update", "apps", "statefulsets/status"),
        ("update", "apps", "statefulsets/finalizers"),
        ("create delete get patch update", "core", "pods"),
        (f"create delete patch update {_READ}", "apps", "controllerrevisions"),
        (f"create {_READ}", "core", "persistentvolumeclaims"),
        ("delete update", "core", "persistentvolumeclaims"),
        ("update", "core", "pods/finalizers"),
        _EVENTS,
    ),
    "ttl-after-finished-controller": ((f"delete {_READ}", "batch", "jobs"), _EVENTS),
    "ttl-controller": (("list patch update watch", "core", "nodes"), _EVENTS),
    "validatingadmissionpolicy-status-controller": (
        (_READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
        _EVENTS,
    ),
    "volumeattributesclass-protection-controller": (
        (_READ, "core", "persistentvolumeclaims"),
        (_READ, "core", "persistentvolumes"),
        (f"update {_READ}", "storage.k8s.io", "volumeattributesclasses"),
        _EVENTS,
    ),
}

_LOCKING: tuple[Rule, ...] = (("create get list update watch", "coordination.k8s.io", "leases"),)

NAMESPACED: dict[tuple[str, str], tuple[Rule, ...]] = {
    ("kube-public", f"{PREFIX}bootstrap-signer"): (
        (_READ, "core", "configmaps"),
        ("update", "core", "configmaps", "cluster-info"),
        _EVENTS,
    ),
    ("kube-system", "extension-apiserver-authentication-reader"): (
        (_READ, "core", "configmaps", "extension-apiserver-authentication"),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): _LOCKING,
    ("kube-system", "system::leader-locking-kube-scheduler"): _LOCKING,
    ("kube-system", f"{PREFIX}bootstrap-signer"): ((_READ, "core", "secrets"),),
    ("kube-system", f"{PREFIX}cloud-provider"): ((f"create {_READ}", "core", "configmaps"),),
    ("kube-system", f"{PREFIX}token-cleaner"): ((f"delete {_READ}", "core", "secrets"), _EVENTS),
}
"""Roles by (namespace, name)."""

NAMESPACED_BINDINGS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("kube-public", f"{PREFIX}bootstrap-signer"): (f"{PREFIX}bootstrap-signer", (), ("bootstrap-signer",)),
    ("kube-system", "system::extension-apiserver-authentication-reader"): (
        "extension-apiserver-authentication-reader",
        ("system:kube-controller-manager", "system:kube-scheduler"),
        (),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "system::leader-locking-kube-controller-manager",
        ("system:kube-controller-manager",),
        ("kube-controller-manager", "leader-election-controller"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "system::leader-locking-kube-scheduler",
        ("system:kube-scheduler",),
        ("kube-scheduler",),
    ),
    **{
        ("kube-system", f"{PREFIX}{one}"): (f"{PREFIX}{one}", (), (one,))
        for one in ("bootstrap-signer", "cloud-provider", "token-cleaner")
    },
}
"""RoleBindings by (namespace, name): the role, users, and ServiceAccounts of kube-system."""
