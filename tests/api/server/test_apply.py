"""Server-side apply over HTTP: create, conflicts, doors, doubtful bodies, races."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.server.api import Answer, Api

APPLY = "application/apply-patch+yaml"


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def deployment(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


WHOLE = {
    "replicas": 2,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "nginx:1"}]},
    },
}


async def apply(api: Api, path: str, body: Any, query: str = "fieldManager=me") -> Answer:
    return await api.call("PATCH", f"{path}?{query}", body, media=APPLY)


def owners(obj: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", ""))
        for entry in obj["metadata"].get("managedFields", [])
    ]


@pytest.fixture
def maps(space: str) -> str:
    return f"/api/v1/namespaces/{space}/configmaps"


@pytest.fixture
def web(space: str) -> str:
    return f"/apis/apps/v1/namespaces/{space}/deployments/web"


async def test_apply_creates_and_then_changes(api: Api, maps: str) -> None:
    made = await apply(api, f"{maps}/c", config_map(a="1"))
    assert made.status == 201
    assert owners(made.json) == [("me", "Apply", "")]
    changed = await apply(api, f"{maps}/c", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {b: '2'}\n")
    assert (changed.status, changed.json["data"]) == (200, {"b": "2"})


async def test_applying_the_same_again_writes_nothing(api: Api, maps: str) -> None:
    made = await apply(api, f"{maps}/c", config_map(a="1"))
    await asyncio.sleep(1.1)  # managers' times count in seconds
    again = await apply(api, f"{maps}/c", config_map(a="1"))
    assert again.json == made.json


async def test_dry_runs_leave_no_trace(api: Api, maps: str) -> None:
    made = await apply(api, f"{maps}/c", config_map(a="1"), "fieldManager=me&dryRun=All")
    assert made.status == 201
    assert (await api.get(f"{maps}/c")).status == 404
    await apply(api, f"{maps}/c", config_map(a="1"))
    changed = await apply(api, f"{maps}/c", config_map(a="2"), "fieldManager=me&dryRun=All")
    assert changed.json["data"] == {"a": "2"}
    assert (await api.get(f"{maps}/c")).json["data"] == {"a": "1"}


async def test_conflicts_and_force(api: Api, maps: str) -> None:
    await api.post(f"{maps}?fieldManager=creator", config_map(a="1"))
    refused = await apply(api, f"{maps}/c", config_map(a="2"))
    assert refused.failure == (
        409,
        "Conflict",
        'Apply failed with 1 conflict: conflict with "creator" using v1: .data.a',
    )
    assert refused.json["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "creator" using v1', "field": ".data.a"}
    ]
    forced = await apply(api, f"{maps}/c", config_map(a="2"), "fieldManager=me&force=true")
    assert forced.json["data"] == {"a": "2"}
    assert owners(forced.json) == [("me", "Apply", ""), ("creator", "Update", "")]


async def test_two_appliers_share_and_part(api: Api, maps: str) -> None:
    await apply(api, f"{maps}/c", config_map(a="1", b="1"))
    await apply(api, f"{maps}/c", config_map(a="1", x="1"), "fieldManager=you")
    left = await apply(api, f"{maps}/c", config_map())
    assert left.json["data"] == {"a": "1", "x": "1"}


@pytest.mark.parametrize(
    ("body", "query", "status", "text"),
    [
        (config_map(), "", 422, "fieldManager: Required value: is required for apply patch"),
        (config_map(), "fieldManager=" + "x" * 129, 422, "fieldManager: Too long"),
        (config_map(), "fieldManager=a%00b", 422, "should only contain printable characters"),
        ({**config_map(), "apiVersion": "v2"}, "fieldManager=me", 400, "Incorrect version specified in apply patch"),
        ({**config_map(), "kind": "Secret"}, "fieldManager=me", 400, "Incorrect kind specified in apply patch"),
        (b"- a\n- b\n", "fieldManager=me", 400, "not an object"),
        (b"a: [", "fieldManager=me", 400, "error converting YAML to JSON"),
        ({**config_map(), "nope": 1}, "fieldManager=me", 400, ".nope: field not declared in schema"),
        (
            {**config_map(), "metadata": {"name": "c", "managedFields": [{"manager": "x"}]}},
            "fieldManager=me",
            400,
            "metadata.managedFields must be nil",
        ),
        ({**config_map(), "metadata": {"name": "other"}}, "fieldManager=me", 400, "does not match"),
        ({**config_map(), "metadata": {"name": "c", "uid": "1"}}, "fieldManager=me", 409, "uid mismatch"),
        (b"{apiVersion: v1, kind: ConfigMap, metadata: {name: c, name: c}}", "fieldManager=me&fieldValidation=Strict",
         400, "error strict decoding YAML"),
    ],
)  # fmt: skip
async def test_what_is_refused(api: Api, maps: str, body: Any, query: str, status: int, text: str) -> None:
    answer = await apply(api, f"{maps}/c", body, query)
    assert answer.status == status, answer.raw
    assert text in answer.failure[2]
    assert (await api.get(f"{maps}/c")).status == 404


async def test_repeated_keys_are_warned_of(api: Api, maps: str) -> None:
    body = b"{apiVersion: v1, kind: ConfigMap, metadata: {name: c, name: c}}"
    answer = await apply(api, f"{maps}/c", body)
    assert answer.status == 201
    assert "already set in map" in answer.headers["Warning"]


async def test_force_is_for_apply_only_and_cbor_is_unknown(api: Api, maps: str) -> None:
    await api.post(maps, config_map())
    refused = await api.call("PATCH", f"{maps}/c?force=true", {}, media="application/merge-patch+json")
    assert refused.failure[0] == 422
    assert "may not be specified for non-apply patch" in refused.failure[2]
    unknown = await api.call("PATCH", f"{maps}/c?fieldManager=me", b"\xa0", media="application/apply-patch+cbor")
    assert unknown.failure[0] == 415


async def test_a_pinned_version_counts(api: Api, maps: str) -> None:
    made = (await apply(api, f"{maps}/c", config_map(a="1"))).json
    await apply(api, f"{maps}/c", config_map(a="2"))
    late = {**config_map(a="3"), "metadata": {"name": "c", "resourceVersion": made["metadata"]["resourceVersion"]}}
    assert (await apply(api, f"{maps}/c", late)).failure[:2] == (409, "Conflict")


async def test_who_may_patch_but_not_create_does_not_create(api: Api, maps: str, space: str) -> None:
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]}
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}"
    await api.post(f"{base}/roles", role)
    binding = {
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    }
    await api.post(f"{base}/rolebindings", binding)
    await api.get(f"{base}/rolebindings/r")  # once it is read, the authorizer knows it, too
    path = f"{maps}/c?fieldManager=me"
    refused = await api.call("PATCH", path, config_map(), media=APPLY, Impersonate_User="jane")
    assert refused.failure[0] == 403
    assert "cannot create resource" in refused.failure[2]
    await api.post(maps, config_map())
    assert (await api.call("PATCH", path, config_map(), media=APPLY, Impersonate_User="jane")).status == 200


async def test_status_and_scale_have_owners_of_their_own(api: Api, web: str) -> None:
    made = await apply(api, web, deployment(**WHOLE))
    assert made.status == 201, made.raw
    status = {**deployment(), "status": {"replicas": 1, "observedGeneration": 1}}
    told = await apply(api, f"{web}/status", status, "fieldManager=controller")
    assert told.json["status"]["replicas"] == 1
    assert sorted(owners(told.json)) == [("controller", "Apply", "status"), ("me", "Apply", "")]
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}
    refused = await apply(api, f"{web}/scale", scale, "fieldManager=scaler")
    assert refused.failure[2] == 'Apply failed with 1 conflict: conflict with "me": .spec.replicas'
    scaled = await apply(api, f"{web}/scale", scale, "fieldManager=scaler&force=true")
    assert scaled.json["spec"] == {"replicas": 5}
    now = (await api.get(web)).json
    assert now["spec"]["replicas"] == 5
    assert ("scaler", "Apply", "scale") in owners(now)
    back = await apply(api, web, deployment(**WHOLE))
    assert back.failure[2] == (
        'Apply failed with 1 conflict: conflict with "scaler" with subresource "scale": .spec.replicas'
    )


async def test_put_through_scale_takes_replicas(api: Api, web: str) -> None:
    await apply(api, web, deployment(**WHOLE))
    scale = (await api.get(f"{web}/scale")).json
    scale["spec"]["replicas"] = 9
    await api.put(f"{web}/scale?fieldManager=autoscaler", scale)
    now = (await api.get(web)).json
    (entry,) = [one for one in now["metadata"]["managedFields"] if one["manager"] == "autoscaler"]
    assert (entry["subresource"], entry["apiVersion"]) == ("scale", "apps/v1")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


async def test_managers_come_from_the_user_agent(api: Api, maps: str) -> None:
    made = await api.call("POST", maps, config_map(a="1"), User_Agent="my-tool/1.2 (linux) x")
    assert owners(made.json) == [("my-tool", "Update", "")]


async def test_versions_of_one_kind_know_each_others_owners(api: Api, space: str) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    two = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, "minReplicas": 2},
    }
    path = f"namespaces/{space}/horizontalpodautoscalers/h"
    made = await apply(api, f"/apis/autoscaling/v2/{path}", two, "fieldManager=two")
    assert made.status == 201, made.raw
    one = {**two, "apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 7, "scaleTargetRef": target}}
    refused = await apply(api, f"/apis/autoscaling/v1/{path}", one, "fieldManager=one")
    assert refused.failure[2] == 'Apply failed with 1 conflict: conflict with "two": .spec.maxReplicas'


async def test_racing_appliers_and_an_updater_lose_nothing(api: Api, maps: str) -> None:
    await api.post(maps, config_map(seen="0"))

    async def applier(name: str) -> None:
        for turn in range(15):
            body = config_map(**{name: str(turn)})
            answer = await apply(api, f"{maps}/c", body, f"fieldManager={name}")
            assert answer.status == 200, answer.raw

    async def updater() -> None:
        for turn in range(15):
            while True:
                current = (await api.get(f"{maps}/c")).json
                current["data"]["seen"] = str(turn)
                answer = await api.put(f"{maps}/c?fieldManager=updater", current)
                if answer.status == 200:
                    break
                assert answer.status == 409, answer.raw

    await asyncio.gather(applier("left"), applier("right"), updater())
    final = (await api.get(f"{maps}/c")).json
    assert final["data"] == {"seen": "14", "left": "14", "right": "14"}
    sets = {entry["manager"]: entry["fieldsV1"] for entry in final["metadata"]["managedFields"]}
    assert sets["left"] == {"f:data": {"f:left": {}}}
    assert sets["right"] == {"f:data": {"f:right": {}}}
    assert sets["updater"] == {"f:data": {"f:seen": {}}}


async def test_racing_creates_meet_in_one_object(api: Api, maps: str) -> None:
    answers = await asyncio.gather(
        *(apply(api, f"{maps}/c", config_map(**{f"k{n}": "1"}), f"fieldManager=m{n}") for n in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert (await api.get(f"{maps}/c")).json["data"] == {f"k{n}": "1" for n in range(8)}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 900,
        b'{"apiVersion":"v1","kind":"ConfigMap","data":' + b'{"a":' * 600 + b"1" + b"}" * 601,
        b'{"apiVersion":1,"kind":[]}',
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","labels":"x"}}',
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","ownerReferences":[1,null,{}]}}',
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","finalizers":[{},null]}}',
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"immutable":{}}',
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":[]}',
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":[]}',
        b"\xff\xfe",
        b"",
        b"a: &a [*a]",
    ],
)
async def test_nonsense_is_the_clients_fault(api: Api, maps: str, body: bytes) -> None:
    answer = await apply(api, f"{maps}/c", body)
    assert 400 <= answer.failure[0] < 500


async def test_owners_that_clients_make_up(api: Api, maps: str) -> None:
    made = (await api.post(f"{maps}?fieldManager=creator", config_map(a="1"))).json
    path = f"{maps}/c?fieldManager=other"
    for nonsense in ([{"manager": "x"}], [{"operation": "Update", "apiVersion": "v1", "fieldsType": "No"}]):
        made["metadata"]["managedFields"] = nonsense
        made = (await api.put(path, made)).json
        assert owners(made) == [("creator", "Update", "")]
    made["metadata"]["managedFields"] = [{}]
    made = (await api.put(path, made)).json
    assert owners(made) == []
    made["data"]["b"] = "2"
    assert owners((await api.put(path, made)).json) == []
    first = await apply(api, f"{maps}/c", config_map(a="1"))
    assert owners(first.json) == [("me", "Apply", ""), ("before-first-apply", "Update", "")]
