"""Writing: races, generated names, status and spec apart, scale, tokens, impersonation."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.server.api import PATCH, Api
from tests.api.server.process import ServerProcess

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
DEPLOYMENT = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}


async def test_fifty_writers_lose_no_update(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    await api.post(path, {"metadata": {"name": "counter"}, "data": {"n": "0"}})

    async def optimistic() -> None:
        while True:
            current = (await api.get(f"{path}/counter")).json
            current["data"]["n"] = str(int(current["data"]["n"]) + 1)
            answer = await api.put(f"{path}/counter", current)
            if answer.status == 200:
                return
            assert answer.failure[:2] == (409, "Conflict")

    await asyncio.gather(*(optimistic() for _ in range(50)))
    assert (await api.get(f"{path}/counter")).json["data"]["n"] == "50"


async def test_racing_patches_all_count(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    await api.post(path, {"metadata": {"name": "shared"}})
    answers = await asyncio.gather(*(api.patch(f"{path}/shared", {"data": {f"k{n}": "x"}}) for n in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len((await api.get(f"{path}/shared")).json["data"]) == 50


async def test_racing_services_get_addresses_of_their_own(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/services"
    spec = {"type": "NodePort", "ports": [{"port": 80}]}
    answers = await asyncio.gather(
        *(api.post(path, {"metadata": {"name": f"s{number}"}, "spec": spec}) for number in range(60))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["spec"]["clusterIP"] for answer in answers}) == 60
    assert len({answer.json["spec"]["ports"][0]["nodePort"] for answer in answers}) == 60


async def test_services_keep_and_give_back(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/services"
    spec: dict[str, Any] = {"type": "NodePort", "ports": [{"port": 80}]}
    made = (await api.post(path, {"metadata": {"name": "s"}, "spec": spec})).json
    port = made["spec"]["ports"][0]["nodePort"]
    # a manifest applied again says nothing about what was allocated
    put = await api.put(f"{path}/s", {"metadata": {"name": "s"}, "spec": spec})
    assert put.status == 200, put.raw
    assert put.json["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert put.json["spec"]["ports"][0]["nodePort"] == port
    inside = await api.patch(f"{path}/s", {"spec": {"type": "ClusterIP"}})
    assert inside.status == 200, inside.raw
    assert "nodePort" not in inside.json["spec"]["ports"][0]
    headless = await api.post(path, {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}})
    assert headless.json["spec"]["clusterIPs"] == ["None"]
    external = await api.post(
        path, {"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}
    )
    assert "clusterIP" not in external.json["spec"]
    changed = await api.patch(f"{path}/s", {"spec": {"clusterIP": "10.96.200.1", "clusterIPs": ["10.96.200.1"]}})
    assert changed.failure[:2] == (422, "Invalid")


async def test_generated_names(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    answers = await asyncio.gather(*(api.post(path, {"metadata": {"generateName": "gen-"}}) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    made = {answer.json["metadata"]["name"] for answer in answers}
    assert len(made) == 20
    assert all(name.startswith("gen-") and len(name) == 9 for name in made)


async def test_generation_counts_what_is_desired(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    made = (await api.post(path, {**DEPLOYMENT, "status": {"replicas": 9}})).json
    assert made["metadata"]["generation"] == 1
    assert made.get("status", {}).get("replicas") is None
    labelled = (await api.patch(f"{path}/d", {"metadata": {"labels": {"x": "y"}}})).json
    assert labelled["metadata"]["generation"] == 1
    scaled = (await api.patch(f"{path}/d", {"spec": {"replicas": 2}, "status": {"replicas": 5}})).json
    assert scaled["metadata"]["generation"] == 2
    assert scaled.get("status", {}).get("replicas") is None
    told = (await api.patch(f"{path}/d/status", {"spec": {"replicas": 7}, "status": {"replicas": 2}})).json
    assert (told["spec"]["replicas"], told["status"]["replicas"]) == (2, 2)
    assert told["metadata"]["generation"] == 2
    same = (await api.put(f"{path}/d", told)).json
    assert same["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"]


async def test_scale(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    await api.post(path, DEPLOYMENT)
    scale = (await api.get(f"{path}/d/scale")).json
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 1})
    scale["spec"]["replicas"] = 4
    assert (await api.put(f"{path}/d/scale", scale)).json["spec"]["replicas"] == 4
    assert (await api.put(f"{path}/d/scale", scale)).failure[:2] == (409, "Conflict")
    assert (await api.patch(f"{path}/d/scale", {"spec": {"replicas": 0}})).status == 200
    assert (await api.get(f"{path}/d")).json["spec"]["replicas"] == 0
    refused = await api.patch(f"{path}/d/scale", {"spec": {"replicas": -1}})
    assert refused.failure[:2] == (422, "Invalid")


async def test_patches_of_a_scale_are_read_as_strictly_as_others(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    await api.post(path, DEPLOYMENT)
    scale = f"{path}/d/scale"
    merge, operations = PATCH["merge"], PATCH["json"]
    for media, patch, told in (
        (merge, b'{"spec":{"replicas":2,"replicas":3}}', 'duplicate field "spec.replicas"'),
        (merge, b'{"spec":{"replicas":3,"colour":"red"}}', 'unknown field "spec.colour"'),
        (operations, b'[{"op":"add","path":"/spec/replicas","value":3,"x":1}]', 'json patch unknown field "[0].x"'),
    ):
        strict = await api.call("PATCH", f"{scale}?fieldValidation=Strict", patch, media=media)
        assert strict.failure[:2] == (422, "Invalid"), strict.raw
        assert strict.failure[2].endswith(f"strict decoding error: {told}")
        warned = await api.call("PATCH", f"{scale}?fieldValidation=Warn&dryRun=All", patch, media=media)
        assert warned.status == 200, warned.raw
        assert told.replace('"', '\\"') in warned.headers["Warning"]
        ignored = await api.call("PATCH", f"{scale}?fieldValidation=Ignore&dryRun=All", patch, media=media)
        assert (ignored.status, "Warning" in ignored.headers) == (200, False)
    assert (await api.get(scale)).json["spec"] == {"replicas": 1}
    for kind, shown in (("merge", '\\"replicas\\":\\"many\\"'), ("strategic", "map[spec:map[replicas:many]]")):
        refused = await api.patch(scale, {"spec": {"replicas": "many"}}, kind)
        code, reason, message = refused.failure
        assert (code, reason) == (422, "Invalid")
        assert message.startswith(' "" is invalid: patch: Invalid value: "')
        assert shown in message
        assert "kind" not in refused.json["details"]
    assert (await api.patch(f"{scale}?force=true", {"spec": {"replicas": 2}})).failure[:2] == (422, "Invalid")
    told = await api.put(scale, {"metadata": {"name": "d"}, "spec": {"replicas": "many"}})
    assert told.failure[:2] == (400, "BadRequest")
    assert told.failure[2].startswith(
        'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal string'
    )


async def test_what_is_in_no_namespace_may_name_one(api: Api, space: str) -> None:
    """Charts do; upstream clears it."""
    path, name = "/apis/rbac.authorization.k8s.io/v1/clusterroles", f"role-{space}"
    role: dict[str, Any] = {"metadata": {"name": name, "namespace": "x"}, "rules": []}
    answers = [await api.post(path, role), await api.put(f"{path}/{name}", role)]
    answers.append(await api.patch(f"{path}/{name}", {"metadata": {"namespace": "y", "labels": {"a": "b"}}}))
    applied = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"} | role
    for one in (name, f"{name}-applied"):
        applied["metadata"] = {"name": one, "namespace": "x"}
        query = "fieldManager=me&force=true"
        answers.append(await api.patch(f"{path}/{one}?{query}", applied, "application/apply-patch+yaml"))
    assert [answer.status for answer in answers] == [201, 200, 200, 200, 201], [answer.raw for answer in answers]
    assert all("namespace" not in answer.json["metadata"] for answer in answers)
    assert (await api.delete(f"{path}/{name}")).status == (await api.delete(f"{path}/{name}-applied")).status == 200


async def test_strategic_patches_go_by_the_kind_that_is_patched(api: Api, space: str) -> None:
    """Ansible's k8s_scale and others send what they scale, not a Scale; such patches say nothing about their kind."""
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    await api.post(path, DEPLOYMENT)
    named = {"kind": "Deployment", "metadata": {"name": "d", "namespace": space}, "spec": {"replicas": 3}}
    scaled = await api.patch(f"{path}/d/scale", named, "strategic")
    assert scaled.status == 200, scaled.raw
    assert (scaled.json["kind"], scaled.json["spec"]) == ("Scale", {"replicas": 3})
    other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}}}
    patched = await api.patch(f"{path}/d", other, "strategic")
    assert patched.status == 200, patched.raw
    assert (patched.json["apiVersion"], patched.json["kind"]) == ("apps/v1", "Deployment")
    assert patched.json["metadata"]["labels"] == {"a": "b"}
    assert (await api.patch(f"{path}/d/scale", named, "merge")).status == 422
    assert (await api.patch(f"{path}/d", other, "merge")).status == 422
    assert (await api.patch(f"{path}/d", {"kind": 5}, "strategic")).status == 422


async def test_a_put_creates_where_the_kind_allows(api: Api, space: str) -> None:
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases/l"
    assert (await api.put(path, lease)).status == 201
    missing = await api.put(f"/api/v1/namespaces/{space}/pods/p", {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]})
    assert missing.failure[:2] == (404, "NotFound")


async def test_service_account_tokens(api: Api, server: ServerProcess, space: str) -> None:
    request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
    answer = await api.post(f"/api/v1/namespaces/{space}/serviceaccounts/default/token", request)
    assert answer.status == 201, answer.raw
    token = answer.json["status"]["token"]
    async with Api(server.kubeconfig, token=token) as robot:
        review = (await robot.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})).json
        assert review["status"]["userInfo"]["username"] == f"system:serviceaccount:{space}:default"
        assert (await robot.get("/api/v1/nodes")).failure[:2] == (403, "Forbidden")
        assert (await robot.get("/api/v1/pods", Impersonate_User="root")).failure[:2] == (403, "Forbidden")
    async with Api(server.kubeconfig, token=token[:-4] + "AAAA") as forged:
        assert (await forged.get("/api/v1/nodes")).failure[:2] == (401, "Unauthorized")
    await api.delete(f"/api/v1/namespaces/{space}/serviceaccounts/default")
    async with Api(server.kubeconfig, token=token) as ghost:
        assert (await ghost.get("/api/v1/nodes")).failure[:2] == (401, "Unauthorized")


async def test_impersonation(api: Api) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    shown = (await api.post(path, {}, Impersonate_User="bob", Impersonate_Group="dev")).json["status"]["userInfo"]
    assert shown["username"] == "bob"
    assert set(shown["groups"]) == {"dev", "system:authenticated"}
    refused = await api.get("/api/v1/secrets", Impersonate_User="bob")
    assert refused.failure[:2] == (403, "Forbidden")


async def test_the_kubernetes_service_is_there(api: Api) -> None:
    service = (await api.get("/api/v1/namespaces/default/services/kubernetes")).json
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    info = (await api.get("/api/v1/namespaces/kube-public/configmaps/cluster-info")).json
    assert "certificate-authority-data" in info["data"]["kubeconfig"]


async def test_a_replacement_says_what_it_replaces(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    assert (await api.post(path, DEPLOYMENT)).status == 201
    undetermined = "the name of the object (d based on URL) was undeterminable: name must be provided"
    other = "the name of the object (e) does not match the name on the URL (d)"
    elsewhere = f"the namespace of the object (default) does not match the namespace on the request ({space})"
    scale = {"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 1}}
    for door, body in (("", DEPLOYMENT), ("/status", DEPLOYMENT), ("/scale", scale)):
        for metadata, text in (
            ({}, undetermined),
            ({"name": "e"}, other),
            ({"name": "d", "namespace": "default"}, elsewhere),
        ):
            refused = await api.put(f"{path}/d{door}", {**body, "metadata": metadata})
            assert refused.failure == (400, "BadRequest", text), door
        assert (await api.put(f"{path}/d{door}", {**body, "metadata": {"name": "d"}})).status == 200
