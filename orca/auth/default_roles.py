"""The roles and bindings every cluster starts with, as facts; :mod:`orca.server.bootstrap` writes them.

Names and contents are upstream's bootstrap policy; the bindings for joining nodes are kubeadm's, under our name.
"""

from orca.api.builtin import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orca.api.objects import Obj, name
from orca.api.resources import Resource
from orca.auth import controller_roles
from orca.auth.identity import ANONYMOUS, AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED
from orca.auth.rbac import effective_rules

NODE_TOKEN_GROUP = "system:bootstrappers:orca:default-node-token"
_API_GROUP = "rbac.authorization.k8s.io"
_READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_EVENTS = "create patch update"
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_AUTOUPDATE = {"rbac.authorization.kubernetes.io/autoupdate": "true"}


def _rule(verbs: str, groups: str, resources: str, *names: str) -> Obj:
    """``groups`` is separated by blanks, the core group is ``core``."""
    found: Obj = {
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
        "verbs": verbs.split(),
    }
    if names:
        found["resourceNames"] = list(names)
    return found


def _paths(*paths: str) -> Obj:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


_ADMIN = [
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule(f"{_WRITE} {_READ}", _API_GROUP, "rolebindings roles"),
]
_EDIT = [
    _rule(_READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    _rule("impersonate", "core", "serviceaccounts"),
    _rule(_WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    _rule("create", "core", "pods/eviction serviceaccounts/token"),
    _rule(
        _WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
        "serviceaccounts services services/proxy",
    ),
    _rule(
        _WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
        "statefulsets/scale",
    ),
    _rule(_WRITE, "autoscaling", "horizontalpodautoscalers"),
    _rule(_WRITE, "batch", "cronjobs jobs"),
    _rule(
        _WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets "
        "replicasets/scale replicationcontrollers/scale",
    ),
    _rule(_WRITE, "policy", "poddisruptionbudgets"),
    _rule(_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    _rule(f"{_WRITE} {_READ}", "coordination.k8s.io", "leases"),
    _rule(_WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
]
_VIEW = [
    _rule(
        _READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    _rule(
        _READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
        "resourcequotas resourcequotas/status",
    ),
    _rule(_READ, "core", "namespaces"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule(
        _READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
        "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    _rule(_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    _rule(_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    _rule(
        _READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status "
        "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    _rule(_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    _rule(_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    _rule(_READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
]
_METRICS = [_rule(_READ, "metrics.k8s.io", "pods nodes")]  # as metrics-server brings it
_REVIEWS = [
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews"),
]
_OWN_REVIEWS = [
    _rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
    _rule("create", "authentication.k8s.io", "selfsubjectreviews"),
]
_NODE = [
    *_REVIEWS,
    _rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule(_READ, "core", "services configmaps secrets endpoints namespaces"),
    _rule(f"create patch update {_READ}", "core", "nodes"),
    _rule("patch update", "core", "nodes/status pods/status"),
    _rule(_EVENTS, "core events.k8s.io", "events"),
    _rule(f"create delete {_READ}", "core", "pods"),
    _rule("create", "core", "pods/eviction serviceaccounts/token"),
    _rule("get", "core", "serviceaccounts"),
    _rule("get", "core", "persistentvolumeclaims persistentvolumes"),
    _rule("get patch update", "core", "persistentvolumeclaims/status"),
    _rule(f"create {_READ}", "certificates.k8s.io", "certificatesigningrequests"),
    _rule("create delete get patch update", "coordination.k8s.io", "leases"),
    _rule("get", "storage.k8s.io", "volumeattachments"),
    _rule(_READ, "storage.k8s.io", "csidrivers"),
    _rule("create delete get patch update", "storage.k8s.io", "csinodes"),
    _rule(_READ, "node.k8s.io", "runtimeclasses"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule("get", "resource.k8s.io", "resourceclaims"),
    _rule(f"{_WRITE} {_READ}", "resource.k8s.io", "resourceslices"),
]
_SCHEDULER = [
    *_REVIEWS,
    _rule(_EVENTS, "core events.k8s.io", "events"),
    _rule("create", "coordination.k8s.io", "leases"),
    _rule("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
    _rule(_READ, "core", "nodes namespaces replicationcontrollers services persistentvolumeclaims persistentvolumes"),
    _rule(f"delete {_READ}", "core", "pods"),
    _rule("create", "core", "bindings pods/binding"),
    _rule("patch update", "core", "pods/status"),
    _rule(_READ, "apps extensions", "replicasets"),
    _rule(_READ, "apps", "statefulsets"),
    _rule(_READ, "policy", "poddisruptionbudgets"),
    _rule(_READ, "storage.k8s.io", "csinodes csidrivers csistoragecapacities volumeattachments"),
    _rule(_READ, "resource.k8s.io", "deviceclasses devicetaintrules resourceslices"),
    _rule(f"patch update {_READ}", "resource.k8s.io", "resourceclaims resourceclaims/status"),
    _rule(f"patch update {_READ}", "core", "pods/finalizers"),
]
_CONTROLLER_MANAGER = [
    *_REVIEWS,
    _rule(_EVENTS, "core events.k8s.io", "events"),
    _rule("create", "coordination.k8s.io", "leases"),
    _rule("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
    _rule("create get update", "core", "secrets serviceaccounts"),
    _rule("delete", "core", "secrets"),
    _rule("get", "core", "configmaps namespaces"),
    _rule("list watch", "*", "*"),
    _rule("create", "core", "serviceaccounts/token"),
]
_PROXIER = [
    _rule("list watch", "core", "endpoints services"),
    _rule(_READ, "core", "nodes"),
    _rule(_EVENTS, "core events.k8s.io", "events"),
    _rule("list watch", "discovery.k8s.io", "endpointslices"),
    _rule("list watch", "networking.k8s.io", "servicecidrs"),
]
_PROBES = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY = ("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_PROBES)
_MONITORING = (
    *("/flagz", "/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"),
    "/statusz",
)
_SIGNERS = ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
_CSR = "certificatesigningrequests"

_PLAIN: dict[str, list[Obj]] = {
    "cluster-admin": [_rule("*", "*", "*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    "system:auth-delegator": _REVIEWS,
    "system:basic-user": _OWN_REVIEWS,
    "system:discovery": [_paths(*_DISCOVERY)],
    "system:public-info-viewer": [_paths(*_PROBES)],
    "system:monitoring": [_paths(*_MONITORING)],
    "system:service-account-issuer-discovery": [
        _paths(
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        )
    ],
    "system:node": _NODE,
    "system:node-bootstrapper": [_rule(f"create {_READ}", "certificates.k8s.io", _CSR)],
    "system:node-proxier": _PROXIER,
    "system:node-problem-detector": [
        _rule("get", "core", "nodes"),
        _rule("patch", "core", "nodes/status"),
        _rule(_EVENTS, "core events.k8s.io", "events"),
    ],
    "system:kube-scheduler": _SCHEDULER,
    "system:volume-scheduler": [
        _rule(f"patch update {_READ}", "core", "persistentvolumes persistentvolumeclaims"),
        _rule(_READ, "storage.k8s.io", "storageclasses"),
    ],
    "system:kube-controller-manager": _CONTROLLER_MANAGER,
    "system:kube-dns": [_rule("list watch", "core", "endpoints services")],
    "system:heapster": [
        _rule(_READ, "core", "events namespaces nodes pods"),
        _rule(_READ, "extensions", "deployments"),
    ],
    "system:kube-aggregator": [_rule(_READ, "core", "endpoints services")],
    "system:kubelet-api-admin": [
        _rule(f"proxy {_READ}", "core", "nodes"),
        _rule("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
        _rule("*", "core", "nodes/configz nodes/healthz nodes/pods"),
    ],
    "system:persistent-volume-provisioner": [
        _rule(f"create delete {_READ}", "core", "persistentvolumes"),
        _rule(f"update {_READ}", "core", "persistentvolumeclaims"),
        _rule(_READ, "storage.k8s.io", "storageclasses"),
        _rule("watch", "core", "events"),
        _rule(_EVENTS, "core events.k8s.io", "events"),
    ],
    f"system:certificates.k8s.io:{_CSR}:nodeclient": [_rule("create", "certificates.k8s.io", f"{_CSR}/nodeclient")],
    f"system:certificates.k8s.io:{_CSR}:selfnodeclient": [
        _rule("create", "certificates.k8s.io", f"{_CSR}/selfnodeclient")
    ],
    **{
        f"system:certificates.k8s.io:{signer}-approver": [
            _rule("approve", "certificates.k8s.io", "signers", f"kubernetes.io/{signer}")
        ]
        for signer in _SIGNERS
    },
}
# role -> (its own rules under system:aggregate-to-<role>, the role it is part of)
_AGGREGATED = {"admin": (_ADMIN, ""), "edit": (_EDIT, "admin"), "view": (_VIEW, "edit")}

_BINDINGS: dict[str, tuple[str, ...]] = {
    "cluster-admin": (MASTERS,),
    "system:basic-user": (AUTHENTICATED,),
    "system:discovery": (AUTHENTICATED,),
    "system:public-info-viewer": (AUTHENTICATED, UNAUTHENTICATED),
    "system:monitoring": ("system:monitoring",),
    "system:service-account-issuer-discovery": (SERVICE_ACCOUNTS,),
    # The node authorizer speaks for nodes; the binding exists without subjects, as upstream.
    "system:node": (),
}
_USER_BINDINGS = {
    "system:kube-controller-manager": "system:kube-controller-manager",
    "system:kube-scheduler": "system:kube-scheduler",
    "system:volume-scheduler": "system:kube-scheduler",
    "system:node-proxier": "system:kube-proxy",
}
_JOIN_BINDINGS = {
    "orca:kubelet-bootstrap": ("system:node-bootstrapper", NODE_TOKEN_GROUP),
    "orca:node-autoapprove-bootstrap": (f"system:certificates.k8s.io:{_CSR}:nodeclient", NODE_TOKEN_GROUP),
    "orca:node-autoapprove-certificate-rotation": (f"system:certificates.k8s.io:{_CSR}:selfnodeclient", NODES),
}
CLUSTER_INFO_ROLE = "orca:bootstrap-signer-clusterinfo"


def _role(role: str, rules: list[Obj], labels: dict[str, str] | None = None) -> Obj:
    return {
        "apiVersion": f"{_API_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role, "labels": {**_LABELS, **(labels or {})}, "annotations": dict(_AUTOUPDATE)},
        "rules": rules,
    }


def _binding(binding: str, role: str, subjects: list[Obj]) -> Obj:
    found: Obj = {
        "apiVersion": f"{_API_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": binding, "labels": dict(_LABELS), "annotations": dict(_AUTOUPDATE)},
        "roleRef": {"apiGroup": _API_GROUP, "kind": "ClusterRole", "name": role},
    }
    if subjects:
        found["subjects"] = subjects
    return found


def _subject(kind: str, who: str) -> Obj:
    return {"apiGroup": _API_GROUP, "kind": kind, "name": who}


def _account(who: str) -> Obj:
    return {"kind": "ServiceAccount", "name": who, "namespace": "kube-system"}


def _of(rule: controller_roles.Rule) -> Obj:
    verbs, groups, resources, *names = rule
    return _rule(verbs, groups, resources, *(names[0].split() if names else ()))


def cluster_roles() -> list[Obj]:
    """All default ClusterRoles; aggregated ones with their rules filled in."""
    roles = [_role(role, rules) for role, rules in _PLAIN.items()]
    everybody = {f"{_AGGREGATE}{role}": "true" for role in _AGGREGATED}
    roles.append(_role("system:aggregated-metrics-reader", _METRICS, everybody))
    roles += [
        _role(f"{controller_roles.PREFIX}{who}", [_of(rule) for rule in rules])
        for who, rules in controller_roles.CONTROLLERS.items()
    ]
    for role, (own, part_of) in _AGGREGATED.items():
        roles.append(_role(f"system:aggregate-to-{role}", own, {f"{_AGGREGATE}{role}": "true"}))
        whole = _role(role, [], {f"{_AGGREGATE}{part_of}": "true"} if part_of else {})
        whole["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {f"{_AGGREGATE}{role}": "true"}}]}
        roles.append(whole)
    known = {name(role): role for role in roles}
    filled = {role: effective_rules(known[role], known) for role in _AGGREGATED}
    for role, rules in filled.items():
        known[role]["rules"] = rules
    return roles


def cluster_role_bindings() -> list[Obj]:
    """All default ClusterRoleBindings."""
    groups = [_binding(role, role, [_subject("Group", g) for g in who]) for role, who in _BINDINGS.items()]
    users = [_binding(role, role, [_subject("User", user)]) for role, user in _USER_BINDINGS.items()]
    dns = _account("kube-dns")
    controllers = [
        _binding(f"{controller_roles.PREFIX}{who}", f"{controller_roles.PREFIX}{who}", [_account(who)])
        for who in controller_roles.CONTROLLERS
    ]
    joins = [_binding(key, role, [_subject("Group", group)]) for key, (role, group) in _JOIN_BINDINGS.items()]
    return [*groups, *users, _binding("system:kube-dns", "system:kube-dns", [dns]), *controllers, *joins]


def namespaced_policy() -> list[tuple[Resource, Obj]]:
    """All default Roles and RoleBindings but those for joining."""
    found: list[tuple[Resource, Obj]] = []
    for (space, who), rules in controller_roles.NAMESPACED.items():
        found.append((ROLES, {**_role(who, [_of(rule) for rule in rules]), "kind": "Role"}))
        found[-1][1]["metadata"]["namespace"] = space
    for (space, who), (role, users, accounts) in controller_roles.NAMESPACED_BINDINGS.items():
        subjects = [*(_subject("User", user) for user in users), *map(_account, accounts)]
        bound = {**_binding(who, role, subjects), "kind": "RoleBinding"}
        bound["metadata"]["namespace"] = space
        bound["roleRef"]["kind"] = "Role"
        found.append((ROLEBINDINGS, bound))
    return found


def cluster_info_access() -> list[tuple[Resource, Obj]]:
    """Role and binding in kube-public that let anybody read the ConfigMap cluster-info, which joining starts with."""
    place = {"name": CLUSTER_INFO_ROLE, "namespace": "kube-public"}
    role: Obj = {
        "apiVersion": f"{_API_GROUP}/v1",
        "kind": "Role",
        "metadata": dict(place),
        "rules": [_rule("get", "core", "configmaps", "cluster-info")],
    }
    binding: Obj = {
        "apiVersion": f"{_API_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": dict(place),
        "roleRef": {"apiGroup": _API_GROUP, "kind": "Role", "name": CLUSTER_INFO_ROLE},
        "subjects": [_subject("User", ANONYMOUS)],
    }
    return [(ROLES, role), (ROLEBINDINGS, binding)]


def default_policy() -> list[tuple[Resource, Obj]]:
    """Everything, in the order to write it."""
    return [
        *((CLUSTERROLES, role) for role in cluster_roles()),
        *((CLUSTERROLEBINDINGS, binding) for binding in cluster_role_bindings()),
        *namespaced_policy(),
        *cluster_info_access(),
    ]
