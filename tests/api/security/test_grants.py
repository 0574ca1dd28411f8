"""Nobody gives what they have not: escalation, binding, aggregation, approval; and what ``kubectl auth`` says of it."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.builtin import BUILTIN
from tests.api.security.authority import signing_request
from tests.api.security.conftest import Connect, as_user, encoded, grant
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
NODES = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["delete"]}


def role(name: str, *rules: Any, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more.pop("metadata", {})}, "rules": list(rules), **more}


def binding(name: str, role_name: str, user: str, kind: str = "ClusterRole") -> dict[str, Any]:
    reference = {"apiGroup": GROUP, "kind": kind, "name": role_name}
    return {"metadata": {"name": name}, "roleRef": reference, "subjects": [as_user(user)]}


async def test_an_admin_of_a_namespace(api: Api, connect: Connect, space: str) -> None:
    await grant(api, "admin", as_user(f"adam-{space}"), space)
    adam = await connect(f"adam-{space}")
    root = f"{RBAC}/namespaces/{space}"
    assert (await adam.post(f"{root}/roles", role("reader", SECRETS))).status == 201
    answer = await adam.post(f"{root}/roles", role("wrecker", NODES))
    assert answer.failure[:2] == (403, "Forbidden")
    assert "is attempting to grant RBAC permissions not currently held" in answer.failure[2]
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    for rule in (
        everything,
        {**SECRETS, "verbs": ["*"]},
        {**SECRETS, "resources": ["*"]},
        {**SECRETS, "apiGroups": ["*"]},
    ):
        assert (await adam.post(f"{root}/roles", role("more", rule))).status == 403
    assert (await adam.put(f"{root}/roles/reader", role("reader", SECRETS, NODES))).status == 403
    assert (await adam.patch(f"{root}/roles/reader", {"rules": [NODES]})).status == 403
    patch = [{"op": "add", "path": "/rules/-", "value": everything}]
    assert (await adam.patch(f"{root}/roles/reader", patch, "json")).status == 403
    applied = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": "reader"}, "rules": [everything]}
    path = f"{root}/roles/reader?fieldManager=x&force=true"
    assert (await adam.call("PATCH", path, applied, media="application/apply-patch+yaml")).status == 403
    for name, code in (("view", 201), ("edit", 201), ("admin", 201), ("cluster-admin", 403), ("system:node", 403)):
        answer = await adam.post(f"{root}/rolebindings", binding(f"b-{name.replace(':', '-')}", name, "x"))
        assert answer.status == code, name
    assert (await adam.post(f"{root}/rolebindings", binding("b-none", "no-such-role", "x"))).status in (403, 404)
    assert (await adam.post(f"{RBAC}/clusterrolebindings", binding("c", "view", "x"))).status == 403
    assert (await adam.post(f"{RBAC}/clusterroles", role("c", SECRETS))).status == 403
    # What a role refers to never changes.
    changed = binding("b-view", "cluster-admin", "x")
    assert (await api.put(f"{root}/rolebindings/b-view", changed)).failure[:2] == (422, "Invalid")


async def test_escalate_and_bind(api: Api, connect: Connect, space: str) -> None:
    roles = {"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["create", "update", "get"]}
    bindings = {"apiGroups": [GROUP], "resources": ["clusterrolebindings"], "verbs": ["create"]}
    bind = {"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": [f"wreck-{space}"]}
    assert (await api.post(f"{RBAC}/clusterroles", role(f"maker-{space}", roles, bindings))).status == 201
    await grant(api, f"maker-{space}", as_user(f"mark-{space}"))
    mark = await connect(f"mark-{space}")
    wreck = role(f"wreck-{space}", NODES)
    assert (await mark.post(f"{RBAC}/clusterroles", wreck)).status == 403
    escalate = {"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["escalate"]}
    assert (await api.post(f"{RBAC}/clusterroles", role(f"esc-{space}", escalate))).status == 201
    await grant(api, f"esc-{space}", as_user(f"mark-{space}"))
    assert (await mark.post(f"{RBAC}/clusterroles", wreck)).status == 201
    mine = binding(f"w-{space}", f"wreck-{space}", f"mark-{space}")
    assert (await mark.post(f"{RBAC}/clusterrolebindings", mine)).status == 403
    assert (await api.post(f"{RBAC}/clusterroles", role(f"bind-{space}", bind))).status == 201
    await grant(api, f"bind-{space}", as_user(f"mark-{space}"))
    assert (await mark.post(f"{RBAC}/clusterrolebindings", mine)).status == 201
    admin = binding(f"a-{space}", "cluster-admin", f"mark-{space}")
    assert (await mark.post(f"{RBAC}/clusterrolebindings", admin)).status == 403
    assert (await mark.get("/api/v1/secrets")).status == 403


async def test_aggregated_roles(api: Api, connect: Connect, space: str) -> None:
    """Rules that are added to ``view`` by their label are held by whoever views, until the role is gone."""
    vera = await connect(f"vera-{space}")
    await grant(api, "view", as_user(f"vera-{space}"))
    path = f"/api/v1/namespaces/{space}/secrets"
    assert (await vera.get(path)).status == 403
    labels = {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}
    extra = role(f"more-{space}", {**SECRETS, "verbs": ["list"]}, metadata=labels)
    assert (await api.post(f"{RBAC}/clusterroles", extra)).status == 201
    assert (await vera.get(path)).status == 200
    assert (await api.delete(f"{RBAC}/clusterroles/more-{space}")).status == 200
    assert (await vera.get(path)).status == 403


async def test_access_reviews_are_questions_one_can_understand(api: Api, space: str) -> None:
    pods = {"verb": "list", "resource": "pods", "namespace": space}
    path = {"verb": "get", "path": "/version"}
    unclear = {"fieldSelector": {"requirements": [{"key": "", "operator": "In"}]}}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("subject", {"spec": {"user": "eve"}}, "spec.resourceAttributes"),
        (
            "subject",
            {"spec": {"user": "eve", "resourceAttributes": pods, "nonResourceAttributes": path}},
            "spec.nonResourceAttributes",
        ),
        ("subject", {"spec": {"resourceAttributes": pods}}, "spec.user"),
        ("subject", {"metadata": {"name": "x"}, "spec": {"user": "eve", "resourceAttributes": pods}}, "metadata"),
        (
            "subject",
            {"spec": {"user": "eve", "resourceAttributes": {**pods, **unclear}}},
            "spec.resourceAttributes.fieldSelector.requirements[0].key",
        ),
        ("selfsubject", {"spec": {}}, "spec.resourceAttributes"),
        ("selfsubject", {"metadata": {"labels": {"a": "b"}}, "spec": {"resourceAttributes": pods}}, "metadata"),
    ]
    for sort, body, field in cases:
        answer = await api.post(f"/apis/authorization.k8s.io/v1/{sort}accessreviews", body)
        assert answer.failure[:2] == (422, "Invalid"), answer.raw
        assert field in [cause["field"] for cause in answer.json["details"]["causes"]]
    local = f"/apis/authorization.k8s.io/v1/namespaces/{space}/localsubjectaccessreviews"
    asked = {"spec": {"user": "eve", "resourceAttributes": {**pods, "namespace": "other"}}}
    assert "must match metadata.namespace" in (await api.post(local, asked)).failure[2]
    asked = {"spec": {"user": "eve", "nonResourceAttributes": path}}
    assert "disallowed on this kind of request" in (await api.post(local, asked)).failure[2]
    assert (await api.post(local, {"spec": {"user": "eve", "resourceAttributes": pods}})).json["status"] == {
        "allowed": False
    }


async def test_approving_and_signing(api: Api, connect: Connect, space: str) -> None:
    signer = "kubernetes.io/kube-apiserver-client"
    spec = {"signerName": signer, "request": encoded(signing_request("eve")), "usages": ["client auth"]}
    assert (await api.post(CSRS, {"metadata": {"name": f"r-{space}"}, "spec": spec})).status == 201
    rules = {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"],
        "verbs": ["update", "patch", "get"],
    }
    assert (await api.post(f"{RBAC}/clusterroles", role(f"ap-{space}", rules))).status == 201
    await grant(api, f"ap-{space}", as_user(f"paul-{space}"))
    paul = await connect(f"paul-{space}")
    condition = {"type": "Approved", "status": "True", "reason": "x", "message": "x"}
    approved = {"status": {"conditions": [condition]}}
    assert (await paul.patch(f"{CSRS}/r-{space}/approval", approved)).status == 403
    await grant(api, "system:certificates.k8s.io:kube-apiserver-client-approver", as_user(f"paul-{space}"))
    assert (await paul.patch(f"{CSRS}/r-{space}/approval", approved)).status == 200
    forged = {"status": {"certificate": encoded(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}}
    assert (await paul.patch(f"{CSRS}/r-{space}/status", forged)).status in (403, 422)
    masters = {**spec, "request": encoded(signing_request("eve", ["system:masters"]))}
    assert (await api.post(CSRS, {"metadata": {"name": f"m-{space}"}, "spec": masters})).status == 403
    for change in (
        {"signerName": "kubernetes.io/legacy-unknown"},
        {"signerName": "none"},
        {"expirationSeconds": 599},
        {"usages": []},
        {"usages": ["client auth", "client auth"]},
        {"usages": ["world domination"]},
        {"request": encoded(b"nonsense")},
    ):
        answer = await api.post(CSRS, {"metadata": {"generateName": "bad-"}, "spec": {**spec, **change}})
        assert answer.failure[:2] == (422, "Invalid"), change
    # Who asked is what the server saw, not what the body says.
    posed = {**spec, "username": "root", "groups": ["system:masters"], "uid": "0"}
    made = await api.post(CSRS, {"metadata": {"generateName": "who-"}, "spec": posed})
    assert made.json["spec"]["username"] != "root"


async def test_reviews_agree_with_what_happens(api: Api, connect: Connect, space: str) -> None:
    user = f"rita-{space}"
    await grant(api, "view", as_user(user), space)
    rita = await connect(user)
    wrong = []
    for row in BUILTIN:
        if row.virtual or not row.namespaced:
            continue
        root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        answer = await rita.get(f"{root}/namespaces/{space}/{row.plural}")
        attributes = {"verb": "list", "group": row.group, "resource": row.plural, "namespace": space}
        path = "/apis/authorization.k8s.io/v1"
        said = await rita.post(f"{path}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": attributes}})
        spec = {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes}
        other = await api.post(f"{path}/subjectaccessreviews", {"spec": spec})
        local = await api.post(
            f"{path}/namespaces/{space}/localsubjectaccessreviews", {"metadata": {"namespace": space}, "spec": spec}
        )
        told = {review.json["status"]["allowed"] for review in (said, other, local)}
        if told != {answer.status == 200}:
            wrong.append((row.plural, told, answer.status))
    assert not wrong


@pytest.mark.parametrize("binary", ["current", "debian"])
async def test_kubectl_auth(server: ServerProcess, api: Api, space: str, binary: str) -> None:
    user = f"kim-{space}"
    await grant(api, "view", as_user(user), space)
    path = kubectls.current() if binary == "current" else kubectls.debian()
    kubectl = Kubectl(path, server.kubeconfig, space)
    assert kubectl("auth", "can-i", "list", "pods", f"--as={user}").strip() == "yes"
    refused = kubectl.try_("auth", "can-i", "delete", "pods", f"--as={user}")
    assert (refused.code, refused.out.strip()) == (1, "no")
    listed = kubectl("auth", "can-i", "--list", f"--as={user}")
    rows = [line.split() for line in listed.splitlines()[1:]]
    assert any(row[0] == "pods" and "[get" in row for row in rows), listed
    assert any(row[0] == "selfsubjectaccessreviews.authorization.k8s.io" for row in rows)
    assert any("[/healthz]" in row for row in rows)
    assert not any(row[0].startswith("secrets") for row in rows)
    assert not any("[create" in row and row[0] == "pods" for row in rows)
