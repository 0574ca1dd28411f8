"""Rights in one namespace end there, however a path is written."""

from __future__ import annotations

import pytest

from tests.api.security.conftest import Connect, as_user
from tests.api.server.api import Api

GROUP = "rbac.authorization.k8s.io"
RBAC = f"/apis/{GROUP}/v1"
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/{space}/nodes",
        "/api/v1/namespaces/{space}/nodes/n/proxy/pods",
        "/api/v1/namespaces/{space}/persistentvolumes",
        "/api/v1/namespaces/{space}/namespaces",
        "/api/v1/namespaces/{space}/namespaces/kube-system",
        "/api/v1/watch/namespaces/{space}/nodes",
        RBAC + "/namespaces/{space}/clusterroles",
        RBAC + "/namespaces/{space}/clusterrolebindings/cluster-admin",
        "/apis/apiextensions.k8s.io/v1/namespaces/{space}/customresourcedefinitions",
        "/apis/certificates.k8s.io/v1/namespaces/{space}/certificatesigningrequests/x/approval",
        "/apis/authentication.k8s.io/v1/namespaces/{space}/tokenreviews",
    ],
)
async def test_kinds_without_namespace_are_not_within_one(api: Api, connect: Connect, space: str, path: str) -> None:
    await api.post(f"{RBAC}/namespaces/{space}/roles", {"metadata": {"name": "all"}, "rules": [EVERYTHING]})
    reference = {"apiGroup": GROUP, "kind": "Role", "name": "all"}
    made = {"metadata": {"name": "all"}, "roleRef": reference, "subjects": [as_user(f"otto-{space}")]}
    await api.post(f"{RBAC}/namespaces/{space}/rolebindings", made)
    otto = await connect(f"otto-{space}")
    assert (await otto.get(f"/api/v1/namespaces/{space}/pods")).status == 200
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        body = None if method == "GET" else {"metadata": {"name": "x"}}
        assert (await otto.call(method, path.format(space=space), body)).status == 404, method


async def test_objects_of_a_namespace_are_nowhere_else(api: Api, space: str) -> None:
    made = {"metadata": {"name": "here", "namespace": space}}
    assert (await api.post(f"/api/v1/namespaces/{space}/configmaps", made)).status == 201
    assert (await api.post("/api/v1/configmaps", made)).status == 405
    assert (await api.post("/api/v1/configmaps", {"metadata": {"name": "nowhere"}})).status == 405
    assert (await api.delete("/api/v1/configmaps")).status == 405
    for path in (f"{space}%2Fhere", "here"):
        assert (await api.get(f"/api/v1/configmaps/{path}")).status == 404
    assert (await api.get("/api/v1/namespaces//configmaps")).status == 404
    assert (await api.get(f"/api/v1/namespaces/{space}/configmaps/here")).status == 200
