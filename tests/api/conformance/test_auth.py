"""sig-auth: service accounts, their tokens and bundles, subject reviews."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.api.conformance.cases import eventually, ok, pod, watching, when
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess


async def test_the_lifecycle_of_a_service_account(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/serviceaccounts"
    label = {"test-serviceaccount-static": "true"}
    async with watching(api, f"{path}?labelSelector=test-serviceaccount-static=true") as seen:
        ok(await api.post(path, {"metadata": {"name": "testserviceaccount", "labels": label}}), 201)
        await seen.saw("ADDED")
        ok(await api.patch(f"{path}/testserviceaccount", {"automountServiceAccountToken": False}, "strategic"))
        await seen.saw("MODIFIED", lambda one: one["automountServiceAccountToken"] is False)
        everywhere = ok(await api.get("/api/v1/serviceaccounts?labelSelector=test-serviceaccount-static=true"))
        assert everywhere["items"][0]["automountServiceAccountToken"] is False
        ok(await api.delete(f"{path}?labelSelector=test-serviceaccount-static=true"))
        await seen.saw("DELETED")


@pytest.mark.parametrize("of_pod", [None, True, False])
@pytest.mark.parametrize("of_account", [None, True, False])
async def test_tokens_are_mounted_unless_opted_out(
    api: Api, space: str, of_pod: bool | None, of_account: bool | None
) -> None:
    root = f"/api/v1/namespaces/{space}"
    account: dict[str, Any] = {"metadata": {"name": "mount"}}
    if of_account is not None:
        account["automountServiceAccountToken"] = of_account
    ok(await api.post(f"{root}/serviceaccounts", account), 201)
    spec: dict[str, Any] = {"serviceAccountName": "mount"}
    if of_pod is not None:
        spec["automountServiceAccountToken"] = of_pod
    made = ok(await api.post(f"{root}/pods", pod("p", **spec)), 201)["spec"]
    mounted = of_pod if of_pod is not None else of_account is not False
    mounts = [one["mountPath"] for one in made["containers"][0].get("volumeMounts") or ()]
    assert ("/var/run/secrets/kubernetes.io/serviceaccount" in mounts) == mounted


async def test_the_root_bundle_is_in_every_namespace(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps/kube-root-ca.crt"
    first = await when(api, path, lambda one: one.get("data", {}).get("ca.crt"))
    ok(await api.delete(path))
    again = await when(api, path, lambda o: o and o["metadata"]["uid"] != first["metadata"]["uid"])
    assert again["data"] == first["data"]
    ok(await api.patch(path, {"data": {"ca.crt": ""}}))
    await when(api, path, lambda one: one["data"] == first["data"])


async def test_discovery_of_the_token_issuer(api: Api, server: ServerProcess, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/serviceaccounts/default/token"
    answer = ok(await api.post(path, {"spec": {"audiences": ["oidc-discovery-test"]}}), 201)
    token = answer["status"]["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    async with Api(server.kubeconfig, token=ok(await api.post(path, {"spec": {}}), 201)["status"]["token"]) as account:
        found = await account.get("/.well-known/openid-configuration")
        document = ok(found)
        assert document["issuer"] == claims["iss"]
        assert "id_token" in document["response_types_supported"]
        keys = await account.get("/openid/v1/jwks")
        assert keys.headers["Content-Type"] == "application/jwk-set+json"
        head = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        assert head["kid"] in {key["kid"] for key in ok(keys)["keys"]}
    assert claims["aud"] == ["oidc-discovery-test"]
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "default"


async def test_subject_reviews_agree_with_impersonation(api: Api, space: str) -> None:
    user = f"system:serviceaccount:{space}:e2e"
    ok(await api.post(f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "e2e"}}), 201)
    attributes = {"verb": "list", "resource": "configmaps", "namespace": space, "version": "v1"}
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{space}"]
    spec = {"resourceAttributes": attributes, "user": user, "groups": groups}

    async def agree(allowed: bool) -> bool:
        sar = ok(await api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec}), 201)
        local = f"/apis/authorization.k8s.io/v1/namespaces/{space}/localsubjectaccessreviews"
        mine = ok(await api.post(local, {"metadata": {"namespace": space}, "spec": spec}), 201)
        done = await api.get(f"/api/v1/namespaces/{space}/configmaps", Impersonate_User=user)
        found = (sar["status"]["allowed"], mine["status"]["allowed"], done.status == 200)
        assert len(set(found)) == 1
        return found[0] is allowed

    assert await agree(allowed=False)
    binding = {
        "metadata": {"name": "e2e"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "e2e", "namespace": space}],
    }
    ok(await api.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/rolebindings", binding), 201)
    await eventually(lambda: agree(allowed=True), bool)
