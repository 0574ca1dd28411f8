"""Plugins that ask the authorizer: grants and signing requests."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orca.admission import Attributes
from orca.admission.certificates import CertificateApproval, CertificateSubjectRestriction
from orca.admission.rbac_escalation import RbacEscalation
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orca.api.errors import ApiError
from orca.auth import UserInfo, build_authorizer
from orca.auth.default_roles import default_policy
from orca.auth.escalation import shown, uncovered
from orca.auth.rbac import effective_rules
from tests.support import strange_certificates as strange
from tests.unit.auth.fakes import Reader, made

RBAC = "rbac.authorization.k8s.io"
ANNA = UserInfo("anna", groups=("system:authenticated",))
MASTER = UserInfo("root", groups=("system:masters",))
PODS = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}


@pytest.fixture
def world():
    """Anna is admin of namespace d."""
    reader = Reader()
    for resource, obj in default_policy():
        reader.put(resource, obj)
    reader.put(ROLEBINDINGS, binding("RoleBinding", "anna", "admin", space="d"))
    return reader, RbacEscalation(reader, build_authorizer(["RBAC"], reader))


def binding(kind, who, role, *, role_kind="ClusterRole", space=""):
    reference = {"apiGroup": RBAC, "kind": role_kind, "name": role}
    subjects = [{"apiGroup": RBAC, "kind": "User", "name": who}]
    return made(f"{RBAC}/v1", kind, f"{role}-{who}", space, roleRef=reference, subjects=subjects)


async def attempt(plugin, resource, obj, user=ANNA, *, old=None, space="d", sub=""):
    operation = "UPDATE" if old else "CREATE"
    await plugin.validate(Attributes(operation, resource, space, obj["metadata"]["name"], obj, old, user, sub))


async def refused(*args, **kwargs):
    with pytest.raises(ApiError) as caught:
        await attempt(*args, **kwargs)
    assert caught.value.code == 403
    return caught.value.message


@pytest.mark.parametrize(
    ("owned", "wanted", "missing"),
    [
        ([PODS], [PODS], 0),
        ([PODS], [{**PODS, "verbs": ["get", "delete"]}], 1),
        ([PODS], [{**PODS, "resources": ["pods", "secrets"]}], 2),
        ([PODS], [{**PODS, "resourceNames": ["x"]}], 0),
        ([{**PODS, "resourceNames": ["x"]}], [PODS], 2),
        ([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], [PODS], 0),
        ([{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["*/scale"]}], [PODS], 2),
        ([{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}], [{"verbs": ["get"], "nonResourceURLs": ["/a/b", "/b"]}], 1),
    ],
)
def test_coverage(owned, wanted, missing):
    assert len(uncovered(owned, wanted)) == missing


def test_rules_too_many_to_look_at():
    """What comes behind the last right that is looked at is nothing to be given away."""
    many = [f"r{n}" for n in range(100_001)]
    greedy = {"verbs": ["get", "*"], "apiGroups": [""], "resources": [*many, "secrets"]}
    missing = uncovered([{"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"]}], [greedy])
    assert missing
    assert len(shown(missing)) < 10_000
    assert uncovered([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], [greedy]) == []
    cube = dict.fromkeys(("verbs", "apiGroups", "resources", "resourceNames"), many[:1000])
    assert uncovered([PODS], [cube]) == [cube]


def test_roles_that_aggregate_each_other():
    selector = {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}
    roles = {
        f"r{n}": {
            "metadata": {"name": f"r{n}", "labels": {"x": "y"}},
            "rules": [{"verbs": [f"v{n}"]}],
            "aggregationRule": selector,
        }
        for n in range(50)
    }
    assert {rule["verbs"][0] for rule in effective_rules(roles["r0"], roles)} == {f"v{n}" for n in range(50)}


async def test_who_aggregates_holds_everything(world):
    reader, plugin = world
    rule = {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}
    gathering = made(f"{RBAC}/v1", "ClusterRole", "r", aggregationRule=rule)
    said = "must have cluster-admin privileges to use the aggregationRule"
    assert (await refused(plugin, CLUSTERROLES, gathering, space="")).endswith(said)
    bare = made(f"{RBAC}/v1", "ClusterRole", "r")
    assert (await refused(plugin, CLUSTERROLES, bare, space="", old=gathering)).endswith(said)
    reader.put(CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "anna", "cluster-admin"))
    await attempt(plugin, CLUSTERROLES, gathering, space="")


async def test_an_admin_grants_what_admins_hold(world):
    _, plugin = world
    await attempt(plugin, ROLES, made(f"{RBAC}/v1", "Role", "r", "d", rules=[PODS]))
    await attempt(plugin, ROLEBINDINGS, binding("RoleBinding", "bert", "view", space="d"))
    await attempt(plugin, ROLEBINDINGS, binding("RoleBinding", "bert", "admin", space="d"))


async def test_and_nothing_beyond(world):
    _, plugin = world
    nodes = {"verbs": ["delete"], "apiGroups": [""], "resources": ["nodes"]}
    text = await refused(plugin, ROLES, made(f"{RBAC}/v1", "Role", "r", "d", rules=[PODS, nodes]))
    assert text.endswith(
        'user "anna" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'
        '{APIGroups:[""], Resources:["nodes"], Verbs:["delete"]}'
    )
    await refused(plugin, ROLEBINDINGS, binding("RoleBinding", "anna", "cluster-admin", space="d"))
    await refused(plugin, CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "anna", "view"), space="")
    await refused(plugin, CLUSTERROLES, made(f"{RBAC}/v1", "ClusterRole", "r", rules=[PODS]), space="")


async def test_masters_and_those_who_may_bind(world):
    reader, plugin = world
    await attempt(plugin, CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "x", "cluster-admin"), MASTER, space="")
    bind = {"verbs": ["bind"], "apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": ["view"]}
    reader.put(CLUSTERROLES, made(f"{RBAC}/v1", "ClusterRole", "binder", rules=[bind]))
    reader.put(CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "anna", "binder"))
    await attempt(plugin, CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "x", "view"), space="")
    await refused(plugin, CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "x", "cluster-admin"), space="")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"finalizers": ["example.org/mine"]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u"}]},
        {"managedFields": [{"manager": "somebody"}]},
    ],
)
async def test_what_the_collector_changes_is_not_judged(world, change):
    _, plugin = world
    for resource, old, space in beyond():
        await attempt(plugin, resource, {**old, "metadata": {**old["metadata"], **change}}, old=old, space=space)


@pytest.mark.parametrize("change", [{"labels": {"a": "b"}}, {"annotations": {"a": "b"}}])
async def test_labels_of_rights_are_judged(world, change):
    _, plugin = world
    for resource, old, space in beyond():
        await refused(plugin, resource, {**old, "metadata": {**old["metadata"], **change}}, old=old, space=space)


async def test_no_role_that_holds_more_is_put_among_the_aggregated(world):
    """With the label, what it may do is what everybody with the role ``view`` may."""
    reader, plugin = world
    editor = [{"verbs": ["update"], "apiGroups": [RBAC], "resources": ["clusterroles"]}]
    reader.put(CLUSTERROLES, made(f"{RBAC}/v1", "ClusterRole", "labels", rules=editor))
    reader.put(CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "anna", "labels"))
    old = made(f"{RBAC}/v1", "ClusterRole", "cluster-admin", rules=[{"verbs": ["*"], "nonResourceURLs": ["*"]}])
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    new = {**old, "metadata": {**old["metadata"], "labels": labels}}
    await refused(plugin, CLUSTERROLES, new, old=old, space="")


def beyond():
    """What grants more than anna holds."""
    rules = [{"verbs": ["delete"], "apiGroups": [""], "resources": ["nodes"]}]
    return [
        (CLUSTERROLES, made(f"{RBAC}/v1", "ClusterRole", "r", rules=rules), ""),
        (ROLES, made(f"{RBAC}/v1", "Role", "r", "d", rules=rules), "d"),
        (CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "x", "cluster-admin"), ""),
        (ROLEBINDINGS, binding("RoleBinding", "x", "cluster-admin", space="d"), "d"),
    ]


def request(organization, signer):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = built.public_bytes(serialization.Encoding.PEM)
    spec = {"signerName": signer, "request": base64.b64encode(pem).decode()}
    return made("certificates.k8s.io/v1", "CertificateSigningRequest", "c", spec=spec)


async def test_nobody_asks_to_be_a_master():
    plugin = CertificateSubjectRestriction()
    signer = "kubernetes.io/kube-apiserver-client"
    await attempt(plugin, CERTIFICATESIGNINGREQUESTS, request("ops", signer), space="")
    await refused(plugin, CERTIFICATESIGNINGREQUESTS, request("system:masters", signer), space="")
    unreadable = request("ops", signer)
    for one in (strange.signing_request(version=5), strange.request_of_no_text()):
        unreadable["spec"]["request"] = one  # what is wrong with it, validation says
        await attempt(plugin, CERTIFICATESIGNINGREQUESTS, unreadable, space="")


async def test_approving_needs_the_signer(world):
    reader, _ = world
    plugin = CertificateApproval(build_authorizer(["RBAC"], reader))
    old = request("ops", "kubernetes.io/kube-apiserver-client")
    new = {**old, "status": {"conditions": [{"type": "Approved"}]}}
    text = await refused(plugin, CERTIFICATESIGNINGREQUESTS, new, old=old, space="", sub="approval")
    assert text.endswith('user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"')
    role = "system:certificates.k8s.io:kube-apiserver-client-approver"
    reader.put(CLUSTERROLEBINDINGS, binding("ClusterRoleBinding", "anna", role))
    await attempt(plugin, CERTIFICATESIGNINGREQUESTS, new, old=old, space="", sub="approval")
