"""RBAC, nodes, and the default policy."""

from orca.api.builtin import CLUSTERROLEBINDINGS, CLUSTERROLES, PERSISTENTVOLUMES, PODS, ROLEBINDINGS, ROLES
from orca.api.selectors import parse_label_selector
from orca.api.volumes import RECLAIM_ON
from orca.auth import Action, UserInfo, build_authorizer
from orca.auth.default_roles import cluster_roles, default_policy
from tests.unit.auth.fakes import Reader, made

ANNA = UserInfo("anna", groups=("dev", "system:authenticated"))
NODE = UserInfo("system:node:n1", groups=("system:nodes", "system:authenticated"))
RBAC = "rbac.authorization.k8s.io"


def rule(verbs, groups, resources, names=()):
    return {"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": list(names)}


def bound(reader, role_rules, *, subject, space=""):
    kind, resource, bindings = (
        ("Role", ROLES, ROLEBINDINGS)
        if space
        else (
            "ClusterRole",
            CLUSTERROLES,
            CLUSTERROLEBINDINGS,
        )
    )
    reader.put(resource, made(f"{RBAC}/v1", kind, "r", space, rules=role_rules))
    reference = {"kind": kind, "name": "r", "apiGroup": RBAC}
    reader.put(bindings, made(f"{RBAC}/v1", f"{kind}Binding", "b", space, roleRef=reference, subjects=[subject]))


def allowed(authorizer, user, verb, resource, *, group="", name="", space="", sub=""):
    return authorizer.at_once(user, Action(verb, group, resource, sub, name, space)).allowed


def test_cluster_wide_by_group():
    reader = Reader()
    bound(reader, [rule(["get", "list"], [""], ["pods"])], subject={"kind": "Group", "name": "dev"})
    authorizer = build_authorizer(["RBAC"], reader)
    assert allowed(authorizer, ANNA, "get", "pods", space="d")
    assert allowed(authorizer, ANNA, "list", "pods")
    assert not allowed(authorizer, ANNA, "delete", "pods", space="d")
    assert not allowed(authorizer, ANNA, "get", "pods", space="d", sub="log")
    assert not allowed(authorizer, ANNA, "get", "pods", group="apps")


def test_namespaced_stays_in_its_namespace():
    reader = Reader()
    bound(reader, [rule(["*"], ["*"], ["*"])], subject={"kind": "User", "name": "anna"}, space="d")
    authorizer = build_authorizer(["RBAC"], reader)
    assert allowed(authorizer, ANNA, "delete", "deployments", group="apps", space="d", sub="scale")
    assert not allowed(authorizer, ANNA, "get", "pods", space="e")
    assert not allowed(authorizer, ANNA, "list", "pods")


def test_service_accounts_and_names():
    reader = Reader()
    subject = {"kind": "ServiceAccount", "name": "app"}
    bound(reader, [rule(["get"], [""], ["configmaps"], ["one"])], subject=subject, space="d")
    authorizer = build_authorizer(["RBAC"], reader)
    app = UserInfo("system:serviceaccount:d:app")
    assert allowed(authorizer, app, "get", "configmaps", space="d", name="one")
    assert not allowed(authorizer, app, "get", "configmaps", space="d", name="two")
    assert not allowed(authorizer, app, "list", "configmaps", space="d")


def test_subresource_wildcards_and_paths():
    reader = Reader()
    rules = [rule(["get"], ["apps"], ["*/scale"]), {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}]
    bound(reader, rules, subject={"kind": "User", "name": "anna"})
    authorizer = build_authorizer(["RBAC"], reader)
    assert allowed(authorizer, ANNA, "get", "deployments", group="apps", sub="scale")
    assert not allowed(authorizer, ANNA, "get", "deployments", group="apps")
    assert authorizer.at_once(ANNA, Action("get", path="/logs/a/b")).allowed
    assert not authorizer.at_once(ANNA, Action("get", path="/metrics/x")).allowed


def test_decisions_are_forgotten_when_a_binding_changes():
    reader = Reader()
    authorizer = build_authorizer(["RBAC"], reader)
    assert not allowed(authorizer, ANNA, "get", "pods")
    bound(reader, [rule(["get"], [""], ["pods"])], subject={"kind": "User", "name": "anna"})
    assert allowed(authorizer, ANNA, "get", "pods")
    reader.drop(CLUSTERROLEBINDINGS, "", "b")
    assert not allowed(authorizer, ANNA, "get", "pods")


def test_masters_need_no_policy():
    authorizer = build_authorizer(["RBAC"], Reader())
    assert allowed(authorizer, UserInfo("x", groups=("system:masters",)), "delete", "nodes", name="n")


def default_world():
    reader = Reader()
    for resource, obj in default_policy():
        reader.put(resource, obj)
    return reader, build_authorizer(["Node", "RBAC"], reader)


def test_default_policy():
    _, authorizer = default_world()
    nobody = UserInfo("system:anonymous", groups=("system:unauthenticated",))
    assert authorizer.at_once(nobody, Action("get", path="/version")).allowed
    assert not authorizer.at_once(nobody, Action("get", path="/api")).allowed
    assert authorizer.at_once(ANNA, Action("get", path="/apis/apps/v1")).allowed
    assert allowed(authorizer, nobody, "get", "configmaps", space="kube-public", name="cluster-info")
    assert not allowed(authorizer, nobody, "list", "configmaps", space="kube-public")
    assert allowed(authorizer, ANNA, "create", "selfsubjectaccessreviews", group="authorization.k8s.io")
    joining = UserInfo("system:bootstrap:abc", groups=("system:bootstrappers:orca:default-node-token",))
    assert allowed(authorizer, joining, "create", "certificatesigningrequests", group="certificates.k8s.io")
    assert not allowed(authorizer, joining, "list", "secrets")


def test_aggregated_roles_contain_those_below():
    roles = {role["metadata"]["name"]: role for role in cluster_roles()}
    for rule_ in roles["view"]["rules"]:
        assert rule_ in roles["edit"]["rules"]
        assert rule_ in roles["admin"]["rules"]
    assert not any("secrets" in r.get("resources", ()) for r in roles["view"]["rules"])


def test_roles_aggregate_what_is_added_later():
    reader, authorizer = default_world()
    assert reader.peek(CLUSTERROLES, "", "view")
    extra = made(f"{RBAC}/v1", "ClusterRole", "crontabs", rules=[rule(["get"], ["stable"], ["crontabs"])])
    extra["metadata"]["labels"] = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    reader.put(CLUSTERROLES, extra)
    reference = {"kind": "ClusterRole", "name": "admin", "apiGroup": RBAC}
    subject = {"kind": "User", "name": "anna"}
    reader.put(ROLEBINDINGS, made(f"{RBAC}/v1", "RoleBinding", "b", "d", roleRef=reference, subjects=[subject]))
    assert allowed(authorizer, ANNA, "get", "crontabs", group="stable", space="d")
    assert allowed(authorizer, ANNA, "delete", "secrets", space="d", name="x")


def test_nodes_have_their_own_things_only():
    reader, authorizer = default_world()
    spec = {
        "nodeName": "n1",
        "serviceAccountName": "app",
        "volumes": [{"name": "v", "secret": {"secretName": "s1"}}],
        "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "c1"}}]}],
    }
    reader.put(PODS, made("v1", "Pod", "p1", "d", spec=spec))
    reader.put(PODS, made("v1", "Pod", "p2", "d", spec={"nodeName": "n2", "containers": []}))
    assert allowed(authorizer, NODE, "patch", "nodes", name="n1", sub="status")
    assert not allowed(authorizer, NODE, "patch", "nodes", name="n2", sub="status")
    assert allowed(authorizer, NODE, "patch", "pods", space="d", name="p1", sub="status")
    assert not allowed(authorizer, NODE, "patch", "pods", space="d", name="p2", sub="status")
    assert allowed(authorizer, NODE, "get", "secrets", space="d", name="s1")
    assert not allowed(authorizer, NODE, "get", "secrets", space="d", name="s2")
    assert not allowed(authorizer, NODE, "list", "secrets")
    assert allowed(authorizer, NODE, "watch", "configmaps", space="d", name="c1")
    assert allowed(authorizer, NODE, "watch", "configmaps", space="kube-system", name="kube-dns")
    assert not allowed(authorizer, NODE, "update", "configmaps", space="kube-system", name="kube-dns")
    assert allowed(authorizer, NODE, "create", "serviceaccounts", space="d", name="app", sub="token")
    assert not allowed(authorizer, NODE, "create", "serviceaccounts", space="d", name="default", sub="token")
    assert allowed(
        authorizer, NODE, "update", "leases", group="coordination.k8s.io", space="kube-node-lease", name="n1"
    )
    assert not allowed(authorizer, NODE, "update", "leases", group="coordination.k8s.io", space="d", name="n1")
    assert not allowed(authorizer, NODE, "delete", "deployments", group="apps", space="d", name="x")
    assert allowed(authorizer, NODE, "watch", "endpointslices", group="discovery.k8s.io")


def test_nodes_see_and_delete_volumes_that_they_are_to_remove_and_no_others():
    reader, authorizer = default_world()

    def put(name, *, node="n1", phase="Released", policy="Delete"):
        volume = made("v1", "PersistentVolume", name, spec={"persistentVolumeReclaimPolicy": policy})
        volume["metadata"]["labels"] = {RECLAIM_ON: node}
        reader.put(PERSISTENTVOLUMES, {**volume, "status": {"phase": phase}})

    put("mine")
    put("bound", phase="Bound")
    put("retained", policy="Retain")
    put("other", node="n2")
    for verb in ("get", "delete", "patch"):
        assert allowed(authorizer, NODE, verb, "persistentvolumes", name="mine")
        for other in ("bound", "retained", "other", "absent"):
            assert not allowed(authorizer, NODE, verb, "persistentvolumes", name=other)
    for chosen, may in (
        (f"{RECLAIM_ON}=n1", True),
        (f"{RECLAIM_ON}=n2", False),
        (f"{RECLAIM_ON} in (n1,n2)", False),
        (f"{RECLAIM_ON}!=n2", False),
        ("", False),
    ):
        asked = Action("list", "", "persistentvolumes", labels=parse_label_selector(chosen))
        assert authorizer.at_once(NODE, asked).allowed is may
