"""CustomResourceDefinitions and their objects, as people and operators use them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.api.server.api import Api
from tests.api.server.definitions import CRDS, crontab, defined, establish, remove
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE
from tests.support.server import running_server

_numbers = itertools.count(1)


@pytest.fixture
def group() -> str:
    """A group of the test's own."""
    return f"g{next(_numbers)}.example.com"


@pytest.fixture
async def served(api: Api, group: str) -> AsyncIterator[str]:
    """The group of a CronTab that is served."""
    async with defined(api, crontab(group)):
        yield group


def one(group: str, name: str = "a", **spec: Any) -> dict[str, Any]:
    body = {"cronSpec": "* * * * */5", **spec}
    return {"apiVersion": f"{group}/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": body}


def test_kubectl_works_with_a_custom_kind(kubectl: Kubectl, group: str) -> None:
    name = f"crontabs.{group}"
    old = "1.20" in kubectl.binary
    kubectl("apply", "-f", "-", stdin=orjson.dumps(crontab(group)))
    kubectl("wait", "--for=condition=established", "--timeout=120s", f"crd/{name}")
    try:
        kubectl("apply", "-f", "-", stdin=orjson.dumps(one(group, "mine", image="nginx")))
        lines = kubectl("get", f"crontab.{group}").splitlines()
        assert lines[0].split() == ["NAME", "SPEC", "REPLICAS", "AGE"]
        assert lines[1].split()[:8] == ["mine", "*", "*", "*", "*", "*/5", "1", lines[1].split()[-1]]
        assert "nginx" in kubectl("get", f"crontabs.{group}", "-o", "wide")
        assert f"crontabs.{group}" in kubectl("api-resources", f"--api-group={group}", "-o", "name")
        row = kubectl("api-resources", f"--api-group={group}", "--no-headers").split()
        assert row[:2] == ["crontabs", "ct"]
        kubectl("scale", f"crontabs.{group}/mine", "--replicas=3")
        assert kubectl("get", f"crontabs.{group}", "mine", "-o", "jsonpath={.spec.replicas}") == "3"
        changed = one(group, "mine", image="busybox")
        assert "configured" in kubectl("apply", "-f", "-", stdin=orjson.dumps(changed))
        assert f"crontab.{group}/mine" in kubectl("get", "all", "-o", "name")
        refused = kubectl.try_("apply", "-f", "-", stdin=orjson.dumps(one(group, "bad", replicas=50)))
        assert (
            "spec.replicas: Invalid value: 50: spec.replicas in body should be less than or equal to 10" in refused.err
        )
        explained = kubectl("explain", "crontabs", f"--api-version={group}/v1", "--recursive")
        assert "A CronTab runs things." in explained
        for field in ("cronSpec", "replicas", "labelSelector", "ownerReferences"):
            assert field in explained
        if not old:
            assert "-required-" in kubectl("explain", "crontabs.spec", f"--api-version={group}/v1")
        watching = kubectl.start("get", f"crontabs.{group}", "--watch", "-o", "name")
        eventually(lambda: kubectl("get", f"crontabs.{group}", "-o", "name"))
        kubectl("delete", "crd", name, "--timeout=120s")
        assert watching.wait(timeout=PATIENCE) is not None, "a watch ends with its kind"
        assert "the server doesn't have a resource type" in kubectl.try_("get", f"crontabs.{group}").err
    finally:
        kubectl("delete", "crd", name, "--ignore-not-found", "--timeout=120s")


async def test_unknown_fields_are_refused_warned_of_or_dropped(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    body = one(served, colour="red")
    strict = await api.post(f"{path}?fieldValidation=Strict", body)
    assert strict.failure == (
        400,
        "BadRequest",
        'CronTab in version "v1" cannot be handled as a CronTab: strict decoding error: unknown field "spec.colour"',
    )
    warned = await api.post(f"{path}?fieldValidation=Warn&dryRun=All", body)
    assert warned.headers["Warning"] == '299 - "unknown field \\"spec.colour\\""'
    dropped = await api.post(f"{path}?fieldValidation=Ignore", body)
    assert dropped.status == 201
    assert "Warning" not in dropped.headers
    assert dropped.json["spec"] == {"cronSpec": "* * * * */5", "replicas": 1}


async def test_invalid_objects_are_told_with_causes(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    refused = await api.post(path, one(served, cronSpec="*", replicas="3"))
    assert refused.status == 422
    details = refused.json["details"]
    assert {key: details[key] for key in ("name", "group", "kind")} == {"name": "a", "group": served, "kind": "CronTab"}
    assert [(cause["reason"], cause["field"]) for cause in details["causes"]] == [
        ("FieldValueInvalid", "spec.cronSpec"),
        ("FieldValueTypeInvalid", "spec.replicas"),
        ("FieldValueInvalid", ".spec.replicas"),
        ("FieldValueInvalid", "<nil>"),
    ]
    ruled = await api.post(path, one(served, image="none"))
    assert ruled.failure[2] == f'CronTab.{served} "a" is invalid: spec: Invalid value: "object": needs an image'


async def test_status_and_spec_are_kept_apart_and_generations_count(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    made = (await api.post(path, {**one(served), "status": {"replicas": 7}})).json
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    told = await api.patch(
        f"{path}/a/status", {"status": {"replicas": 2, "labelSelector": "a=b"}, "spec": {"replicas": 9}}
    )
    assert told.json["spec"]["replicas"] == 1
    assert told.json["metadata"]["generation"] == 1
    spec = await api.patch(f"{path}/a", {"spec": {"replicas": 2}, "status": {"replicas": 9}})
    assert spec.json["status"]["replicas"] == 2
    assert spec.json["metadata"]["generation"] == 2
    scale = (await api.get(f"{path}/a/scale")).json
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 2, "selector": "a=b"})
    negative = await api.patch(f"{path}/a/status", {"status": {"replicas": -2}})
    assert negative.failure[2].endswith(": .status.replicas: Invalid value: -2: should be a non-negative integer")
    await api.patch(f"{path}/a", [{"op": "remove", "path": "/spec/replicas"}], "json")
    fields = (await api.get(f"{path}/a")).json["metadata"]
    del fields["resourceVersion"]
    unpinned = await api.put(f"{path}/a", {**spec.json, "metadata": fields})
    assert unpinned.status == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in unpinned.failure[2]
    assert (await api.patch(f"{path}/a", {}, "strategic")).status == 415
    assert (
        await api.patch(f"{path}/a", [{"op": "replace", "path": "/spec/replicas", "value": 5}], "json")
    ).status == 200


async def test_replicas_that_nobody_named_are_set_through_scale(api: Api, space: str, group: str) -> None:
    definition = crontab(group)
    del definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-preserve-unknown-fields"] = True
    async with defined(api, definition):
        path = f"/apis/{group}/v1/namespaces/{space}/crontabs"
        await api.post(path, one(group))
        missing = 'Internal error occurred: the spec replicas field ".spec.replicas" does not exist'
        assert (await api.get(f"{path}/a/scale")).failure[::2] == (500, missing)
        empty = await api.patch(f"{path}/a/scale", {"metadata": {"labels": {"a": "b"}}})
        assert empty.failure[::2] == (400, 'the spec replicas field ".spec.replicas" cannot be empty')
        assert (await api.patch(f"{path}/a/scale", {"spec": {"replicas": 3}})).json["spec"] == {"replicas": 3}
        assert (await api.get(f"{path}/a")).json["spec"]["replicas"] == 3


async def test_paths_that_a_definition_does_not_serve_are_not_found(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    await api.post(path, one(served))
    missing = (404, "NotFound", f'crontabs.{served} "a" not found')
    assert (await api.get(f"{path}/a/nothing")).failure == missing
    nowhere = (404, "NotFound", "the server could not find the requested resource")
    assert (await api.post(f"/apis/{served}/v1/crontabs", one(served))).failure == nowhere
    assert (await api.delete(f"/apis/{served}/v1/crontabs")).failure == nowhere
    assert (await api.get(f"/apis/{served}/v1/crontabs?fieldSelector=metadata.namespace%3D{space}")).status == 200


async def test_another_kind_is_refused_as_invalid(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    made = (await api.post(path, one(served))).json
    told = (422, "Invalid", f'Other.{served} "a" is invalid: kind: Invalid value: "Other": must be CronTab')
    assert (await api.post(path, {**one(served), "kind": "Other"})).failure == told
    assert (await api.put(f"{path}/a", {**made, "kind": "Other"})).failure == told
    assert (await api.patch(f"{path}/a", {"kind": "Other"})).failure == told


async def test_nulls_in_metadata_are_judged_as_what_they_stand_for(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    assert (await api.post(path, one(served))).status == 201
    for field, value in (("ownerReferences", [None]), ("finalizers", [None]), ("labels", {"a": {}})):
        body = one(served)
        body["metadata"][field] = value
        current = (await api.get(f"{path}/a")).json
        current["metadata"][field] = value
        new = {**body, "metadata": {**body["metadata"], "name": "new"}}
        for answer in (
            await api.post(path, new),
            await api.put(f"{path}/a", current),
            await api.patch(f"{path}/a", {"metadata": {field: value}}),
            await api.patch(f"{path}/a?fieldManager=me&force=true", body, "application/apply-patch+yaml"),
        ):
            assert answer.status in (400, 422), (field, answer.raw)
    new["metadata"] = {"name": "new", "labels": {"a": None}, "managedFields": [None, {"manager": None}]}
    made = await api.post(path, new)
    assert (made.status, made.json["metadata"]["labels"]) == (201, {"a": ""})
    current["metadata"] = (await api.get(f"{path}/a")).json["metadata"]
    current["metadata"]["managedFields"] = [None, {"manager": None}]
    assert (await api.put(f"{path}/a", current)).status == 200


async def test_true_in_place_of_1_is_stored(api: Api, space: str, group: str) -> None:
    definition = crontab(group)
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        schema["properties"]["values"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    async with defined(api, definition):
        path = f"/apis/{group}/v1/namespaces/{space}/crontabs"
        made = (await api.post(path, one(group, values={"enabled": 1}))).json
        made["spec"]["values"]["enabled"] = True
        put = (await api.put(f"{path}/a", made)).json
        assert put["spec"]["values"]["enabled"] is True
        assert put["metadata"]["generation"] == made["metadata"]["generation"] + 1
        patched = (await api.patch(f"{path}/a", {"spec": {"values": {"enabled": 1}}})).json
        assert patched["spec"]["values"]["enabled"] == 1
        assert patched["spec"]["values"]["enabled"] is not True
        assert (await api.get(f"{path}/a")).json == patched


async def test_finalizers_without_a_domain_are_warned_of_once(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    body = one(served)
    body["metadata"]["finalizers"] = ["cleanup", "orphan", "example.com/cleanup"]
    made = await api.post(f"{path}?dryRun=All", body)
    (warning,) = made.headers.getall("Warning")
    assert warning.startswith('299 - "metadata.finalizers: \\"cleanup\\": prefer a domain-qualified finalizer name')
    await api.post(path, body)
    kept = await api.patch(f"{path}/a", {"spec": {"replicas": 2}})
    assert "Warning" not in kept.headers
    await api.patch(f"{path}/a", {"metadata": {"finalizers": None}})


async def test_lists_are_paged_selected_and_shown_as_tables(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    for number in range(5):
        assert (await api.post(path, one(served, f"c{number}", image=f"i{number % 2}"))).status == 201
    page = (await api.get(f"{path}?limit=2")).json
    assert page["kind"] == "CronTabList"
    rest = (await api.get(f"{path}?limit=9&continue={page['metadata']['continue']}")).json
    assert [o["metadata"]["name"] for o in page["items"] + rest["items"]] == [f"c{n}" for n in range(5)]
    chosen = (await api.get(f"{path}?fieldSelector=spec.image%3Di1")).json["items"]
    assert [o["metadata"]["name"] for o in chosen] == ["c1", "c3"]
    assert (await api.get(f"{path}?fieldSelector=spec.cronSpec%3Dx")).status == 400
    table = (await api.get(f"{path}/c1", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Spec", "Replicas", "Image", "Age"]
    assert table["rows"][0]["cells"][:4] == ["c1", "* * * * */5", 1, "i1"]
    partial = (await api.get(path, Accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")).json
    assert partial["kind"] == "PartialObjectMetadataList"
    assert "spec" not in partial["items"][0]


async def test_it_is_published_at_once_and_follows_changes(api: Api, space: str, group: str) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    before = (await api.get("/apis", Accept=aggregated)).headers["ETag"]
    definition = crontab(group)
    await establish(api, definition)
    try:
        after = await api.get("/apis", Accept=aggregated)
        assert after.headers["ETag"] != before
        (found,) = [item for item in after.json["items"] if item["metadata"]["name"] == group]
        (resource,) = found["versions"][0]["resources"]
        assert resource["shortNames"] == ["ct"]
        assert [sub["subresource"] for sub in resource["subresources"]] == ["status", "scale"]
        legacy = (await api.get(f"/apis/{group}/v1")).json["resources"]
        assert [one["name"] for one in legacy] == ["crontabs", "crontabs/status", "crontabs/scale"]
        index = (await api.get("/openapi/v3")).json["paths"]
        first = index[f"apis/{group}/v1"]["serverRelativeURL"]
        schema = (await api.get(first)).json["components"]["schemas"]
        name = ".".join([*reversed(group.split(".")), "v1", "CronTab"])
        assert schema[name]["properties"]["spec"]["properties"]["replicas"]["default"] == 1
        assert name in (await api.get("/openapi/v2")).json["definitions"]
        current = (await api.get(f"{CRDS}/crontabs.{group}")).json
        version = current["spec"]["versions"][0]
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["extra"] = {"type": "string"}
        current["spec"]["names"]["shortNames"] = ["cron"]
        assert (await api.put(f"{CRDS}/crontabs.{group}", current)).status == 200
        second = (await api.get("/openapi/v3")).json["paths"][f"apis/{group}/v1"]["serverRelativeURL"]
        assert second != first
        path = f"/apis/{group}/v1/namespaces/{space}/crontabs"
        assert (await api.post(path, one(group, extra="x"))).json["spec"]["extra"] == "x"
        async with asyncio.timeout(PATIENCE):
            while (await api.get(f"/apis/{group}/v1")).json["resources"][0]["shortNames"] != ["cron"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await remove(api, f"crontabs.{group}")


async def test_defaults_reach_objects_that_were_stored_before_and_shrunk_schemas_prune(
    api: Api, space: str, served: str
) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    await api.post(path, one(served, image="x"))
    current = (await api.get(f"{CRDS}/crontabs.{served}")).json
    version = current["spec"]["versions"][0]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del fields["properties"]["image"], fields["x-kubernetes-validations"], version["selectableFields"]
    fields["properties"]["zone"] = {"type": "string", "default": "north"}
    assert (await api.put(f"{CRDS}/crontabs.{served}", current)).status == 200
    assert (await api.get(f"{path}/a")).json["spec"] == {"cronSpec": "* * * * */5", "replicas": 1, "zone": "north"}
    assert (await api.get(path)).json["items"][0]["spec"]["zone"] == "north"


async def test_what_was_wrong_before_a_schema_got_stricter_may_stay(api: Api, space: str, served: str) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    await api.post(path, one(served, image="long-name", replicas=8))
    current = (await api.get(f"{CRDS}/crontabs.{served}")).json
    fields = current["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    fields["image"]["maxLength"] = 4
    assert (await api.put(f"{CRDS}/crontabs.{served}", current)).status == 200
    assert (await api.patch(f"{path}/a", {"spec": {"replicas": 2}})).status == 200
    assert (await api.patch(f"{path}/a", {"spec": {"image": "other-long"}})).status == 422
    assert (await api.patch(f"{path}/a", {"spec": {"image": "ok"}})).status == 200


async def test_a_refused_definition_says_where(api: Api, group: str) -> None:
    definition = crontab(group)
    fields = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields["x-kubernetes-validations"].append({"rule": "self.missing == 1"})
    refused = await api.post(CRDS, definition)
    assert refused.status == 422
    (cause,) = refused.json["details"]["causes"]
    assert cause["field"] == "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[1].rule"
    assert "undefined field 'missing'" in cause["message"]


async def test_names_that_are_taken_are_given_when_they_are_free(api: Api, group: str) -> None:
    await establish(api, crontab(group))
    other = crontab(group)
    other["metadata"]["name"] = f"others.{group}"
    other["spec"]["names"] = {"plural": "others", "kind": "CronTab", "listKind": "Others"}
    assert (await api.post(CRDS, other)).status == 201
    try:

        async def accepted() -> tuple[str, str]:
            shown = (await api.get(f"{CRDS}/others.{group}")).json["status"]["conditions"]
            return next(((c["status"], c["reason"]) for c in shown if c["type"] == "NamesAccepted"), ("", ""))

        async with asyncio.timeout(PATIENCE):
            while await accepted() != ("False", "KindConflict"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        assert (await api.get(f"/apis/{group}/v1/others")).status == 404
        await api.delete(f"{CRDS}/crontabs.{group}")
        async with asyncio.timeout(PATIENCE):
            while await accepted() != ("True", "NoConflicts"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        assert (await api.get(f"/apis/{group}/v1/others")).status == 200
    finally:
        await remove(api, f"others.{group}")


async def test_objects_go_before_their_definition_and_finalizers_are_honoured(
    api: Api, space: str, served: str
) -> None:
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    held = one(served, "held")
    held["metadata"]["finalizers"] = ["example.com/wait"]
    assert (await api.post(path, held)).status == 201
    assert (await api.post(path, one(served, "free"))).status == 201
    deleted = await api.delete(f"{CRDS}/crontabs.{served}")
    assert deleted.json["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    async with asyncio.timeout(PATIENCE):
        while len((await api.get(path)).json["items"]) != 1:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    shown = (await api.get(f"{CRDS}/crontabs.{served}")).json["status"]["conditions"]
    assert next(c["status"] for c in shown if c["type"] == "Terminating") == "True"
    refused = await api.post(path, one(served, "late"))
    assert refused.failure == (
        405,
        "MethodNotAllowed",
        "create not allowed while custom resource definition is terminating",
    )
    (told, *_) = (await api.get(f"/apis/{served}/v1")).json["resources"]
    assert sorted(told["verbs"]) == ["delete", "deletecollection", "get", "list", "watch"]
    assert (await api.patch(f"{path}/held", {"metadata": {"finalizers": None}})).status == 200
    async with asyncio.timeout(PATIENCE):
        while (await api.get(f"{CRDS}/crontabs.{served}")).status != 404:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert (await api.get(path)).status == 404


# -- the rest of the cluster


def test_a_restarted_server_serves_custom_kinds_from_the_first_request_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    try:
        kubectl = Kubectl(kubectls.current(), server.kubeconfig)
        kubectl("apply", "-f", "-", stdin=orjson.dumps(crontab("stable.example.com")))
        kubectl("wait", "--for=condition=established", "--timeout=120s", "crd/crontabs.stable.example.com")
        kubectl("apply", "-f", "-", stdin=orjson.dumps(one("stable.example.com")))
        server.stop()
        server.start()
        assert kubectl("get", "--raw", "/apis/stable.example.com/v1/crontabs/")
        assert kubectl("get", "crontabs", "-o", "name").split() == ["crontab.stable.example.com/a"]
    finally:
        server.stop()


async def test_namespaces_owners_and_quotas_know_custom_kinds() -> None:
    async with running_server(controllers=True) as server:
        kubectl = Kubectl(kubectls.current(), server.kubeconfig, "team")
        group = "stable.example.com"
        kubectl("create", "namespace", "team")
        eventually(lambda: kubectl.try_("get", "serviceaccount", "default").code == 0)
        kubectl("create", "quota", "few", f"--hard=count/crontabs.{group}=2")
        kubectl("apply", "-f", "-", stdin=orjson.dumps(crontab(group)))
        kubectl("wait", "--for=condition=established", "--timeout=120s", f"crd/crontabs.{group}")

        def used() -> str:
            return kubectl("get", "quota", "few", "-o", "jsonpath={.status.used}")

        eventually(lambda: '"0"' in used())
        kubectl("apply", "-f", "-", stdin=orjson.dumps(one(group, "owner")))
        uid = kubectl("get", "crontab", "owner", "-o", "jsonpath={.metadata.uid}")
        dependent = one(group, "dependent")
        reference = {"apiVersion": f"{group}/v1", "kind": "CronTab", "name": "owner", "uid": uid}
        dependent["metadata"]["ownerReferences"] = [reference]
        kubectl("apply", "-f", "-", stdin=orjson.dumps(dependent))
        refused = kubectl.try_("apply", "-f", "-", stdin=orjson.dumps(one(group, "third")))
        assert "exceeded quota: few" in refused.err
        kubectl("delete", "crontab", "owner", "--timeout=120s")
        eventually(lambda: not kubectl("get", "crontabs", "-o", "name"), what="its dependent is collected")
        eventually(lambda: '"0"' in used())
        kubectl("apply", "-f", "-", stdin=orjson.dumps(one(group, "left")))
        kubectl("delete", "namespace", "team", "--timeout=120s")
        assert not kubectl("get", "crontabs", "--all-namespaces", "-o", "name")


async def test_a_custom_object_says_what_it_is(api: Api, space: str, served: str) -> None:
    """Built-in kinds need not."""
    path = f"/apis/{served}/v1/namespaces/{space}/crontabs"
    whole = one(served)
    for unsaid in ({"kind": ""}, {"kind": "", "apiVersion": ""}, {"kind": None}):
        why = "Object 'Kind' is missing in 'object has no kind field '"
        assert (await api.post(path, {**whole, **unsaid})).failure == (400, "BadRequest", why)
    why = f"the API version in the data () does not match the expected API version ({served}/v1)"
    assert (await api.post(path, {**whole, "apiVersion": ""})).failure == (400, "BadRequest", why)
    made = (await api.post(path, whole)).json
    assert (await api.put(f"{path}/a", {**made, "kind": ""})).failure[:2] == (400, "BadRequest")
    assert (await api.patch(f"{path}/a", {"kind": None})).failure[:2] == (422, "Invalid")
