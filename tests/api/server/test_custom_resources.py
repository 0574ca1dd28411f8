"""CustomResourceDefinitions and their objects, as people and operators use them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.server import running_server
from tests.support.tls import Authority, serving

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_numbers = itertools.count(1)


def crontab(group: str) -> dict[str, Any]:
    """The CronTab of Kubernetes' documentation, with everything a version can say."""
    spec = {
        "type": "object",
        "description": "What to run.",
        "required": ["cronSpec"],
        "properties": {
            "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
            "image": {"type": "string"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
        },
        "x-kubernetes-validations": [{"rule": "!has(self.image) || self.image != 'none'", "message": "needs an image"}],
    }
    status = {
        "type": "object",
        "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "A CronTab runs things.",
                "properties": {"spec": spec, "status": status},
            }
        },
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.labelSelector",
            },
        },
        "additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.image"}],
    }
    # Short names and the words of one group do not disturb another's.
    names = {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"crontabs.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.fixture
def group() -> str:
    """A group of the test's own."""
    return f"g{next(_numbers)}.example.com"


async def establish(api: Api, definition: dict[str, Any]) -> None:
    """Create a definition and wait until it is established, as clients do."""
    name = definition["metadata"]["name"]
    made = await api.post(CRDS, definition)
    assert made.status == 201, made.raw
    async with asyncio.timeout(5):
        while not is_established((await api.get(f"{CRDS}/{name}")).json):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


def is_established(definition: dict[str, Any]) -> bool:
    conditions = definition["status"].get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture
async def served(api: Api, group: str) -> AsyncIterator[str]:
    """The group of a CronTab that is served."""
    await establish(api, crontab(group))
    yield group
    await api.delete(f"{CRDS}/crontabs.{group}")


def one(group: str, name: str = "a", **spec: Any) -> dict[str, Any]:
    body = {"cronSpec": "* * * * */5", **spec}
    return {"apiVersion": f"{group}/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": body}


def test_kubectl_works_with_a_custom_kind(kubectl: Kubectl, group: str) -> None:
    name = f"crontabs.{group}"
    old = "1.20" in kubectl.binary
    kubectl("apply", "-f", "-", stdin=orjson.dumps(crontab(group)))
    kubectl("wait", "--for=condition=established", "--timeout=10s", f"crd/{name}")
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
        kubectl("delete", "crd", name, "--timeout=20s")
        assert watching.wait(timeout=20) is not None, "a watch ends with its kind"
        assert "the server doesn't have a resource type" in kubectl.try_("get", f"crontabs.{group}").err
    finally:
        kubectl("delete", "crd", name, "--ignore-not-found", "--timeout=20s")


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
    fields = spec.json["metadata"]
    del fields["resourceVersion"]
    unpinned = await api.put(f"{path}/a", {**spec.json, "metadata": fields})
    assert unpinned.status == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in unpinned.failure[2]
    assert (await api.patch(f"{path}/a", {}, "strategic")).status == 415
    assert (
        await api.patch(f"{path}/a", [{"op": "replace", "path": "/spec/replicas", "value": 5}], "json")
    ).status == 200


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
        async with asyncio.timeout(5):
            while (await api.get(f"/apis/{group}/v1")).json["resources"][0]["shortNames"] != ["cron"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await api.delete(f"{CRDS}/crontabs.{group}")


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

        async with asyncio.timeout(5):
            while await accepted() != ("False", "KindConflict"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        assert (await api.get(f"/apis/{group}/v1/others")).status == 404
        await api.delete(f"{CRDS}/crontabs.{group}")
        async with asyncio.timeout(5):
            while await accepted() != ("True", "NoConflicts"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        assert (await api.get(f"/apis/{group}/v1/others")).status == 200
    finally:
        await api.delete(f"{CRDS}/others.{group}")


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
    async with asyncio.timeout(5):
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
    assert (await api.patch(f"{path}/held", {"metadata": {"finalizers": None}})).status == 200
    async with asyncio.timeout(10):
        while (await api.get(f"{CRDS}/crontabs.{served}")).status != 404:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert (await api.get(path)).status == 404


# -- versions


def versioned(group: str, conversion: dict[str, Any]) -> dict[str, Any]:
    """``v1beta1`` with ``hostPort`` (a text), ``v1`` with ``host`` and ``port``, as in Kubernetes' documentation."""

    def version(name: str, *, storage: bool, **fields: Any) -> dict[str, Any]:
        schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in fields.items()}}
        return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}}

    versions = [
        {**version("v1beta1", storage=True, hostPort="string"), "deprecated": True},
        {**version("v1", storage=False, host="string", port="string"), "selectableFields": [{"jsonPath": ".host"}]},
    ]
    return {
        "metadata": {"name": f"endpoints.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "endpoints", "kind": "Endpoint"},
            "versions": versions,
            "conversion": conversion,
        },
    }


class Hook:
    """A conversion webhook."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.broken = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        self.asked.append(review["request"])
        wanted = review["request"]["desiredAPIVersion"]
        result = {"status": "Failure", "message": self.broken} if self.broken else {"status": "Success"}
        made = [] if self.broken else [self._convert(obj, wanted) for obj in review["request"]["objects"]]
        response = {"uid": review["request"]["uid"], "convertedObjects": made, "result": result}
        answer = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def _convert(self, obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        made = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v1") and "hostPort" in made:
            made["host"], _, made["port"] = made.pop("hostPort").partition(":")
        elif wanted.endswith("/v1beta1") and "host" in made:
            made["hostPort"] = f"{made.pop('host')}:{made.pop('port', '')}"
        return made


async def test_versions_are_converted_by_a_webhook(api: Api, space: str, group: str, tmp_path: Path) -> None:
    authority, hook = Authority(tmp_path), Hook()
    async with serving(hook, authority.server_context("127.0.0.1")) as port:
        client = {"url": f"https://127.0.0.1:{port}/convert", "caBundle": authority.bundle}
        webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
        await establish(api, versioned(group, {"strategy": "Webhook", "webhook": webhook}))
        old, new = (f"/apis/{group}/{name}/namespaces/{space}/endpoints" for name in ("v1beta1", "v1"))
        try:
            made = await api.post(old, {"metadata": {"name": "a", "labels": {"x": "y"}}, "hostPort": "h:80"})
            assert made.status == 201
            assert made.headers["Warning"] == f'299 - "{group}/v1beta1 Endpoint is deprecated"'
            assert not hook.asked, "the storage version needs no conversion"
            read = (await api.get(f"{new}/a")).json
            assert (read["apiVersion"], read["host"], read["port"]) == (f"{group}/v1", "h", "80")
            assert read["metadata"] == made.json["metadata"]
            await api.get(f"{new}/a")
            assert len(hook.asked) == 1, "an object is converted once, whoever reads it"
            created = (await api.post(new, {"metadata": {"name": "b"}, "host": "i", "port": "81"})).json
            assert (created["host"], created["port"]) == ("i", "81")
            assert (await api.get(f"{old}/b")).json["hostPort"] == "i:81"
            patched = await api.patch(f"{new}/a", {"port": "90"})
            assert patched.status == 200
            assert (await api.get(f"{old}/a")).json["hostPort"] == "h:90"
            for number in range(20):
                await api.post(old, {"metadata": {"name": f"n{number}"}, "hostPort": f"n:{number}"})
            hook.asked.clear()
            listed = (await api.get(new)).json
            assert len(listed["items"]) == 22
            assert all(item["apiVersion"] == f"{group}/v1" and "host" in item for item in listed["items"])
            assert [len(request["objects"]) for request in hook.asked] == [20], "one question for all"
            since = listed["metadata"]["resourceVersion"]
            watching = asyncio.create_task(api.events(f"{new}?watch=1&resourceVersion={since}", 2))
            await asyncio.sleep(0.2)
            await api.patch(f"{old}/a", {"hostPort": "w:1"})
            await api.delete(f"{old}/b")
            changed, gone = await watching
            assert (changed["type"], changed["object"]["host"]) == ("MODIFIED", "w")
            assert (gone["type"], gone["object"]["host"]) == ("DELETED", "i")
            await selected_by_a_converted_field(api, old, new)
            hook.broken = "no idea"
            await api.post(old, {"metadata": {"name": "z"}, "hostPort": "z:1"})
            failed = await api.get(f"{new}/z")
            assert failed.status == 500
            assert failed.json["message"] == f"conversion webhook for {group}/v1beta1, Kind=Endpoint failed: no idea"
            assert (await api.get(f"{old}/z")).status == 200
            hook.broken = ""
            assert (await api.get(f"{new}/z")).json["host"] == "z"
        finally:
            await api.delete(f"{CRDS}/endpoints.{group}")


async def selected_by_a_converted_field(api: Api, old: str, new: str) -> None:
    """``host`` is only known after conversion, in lists and in watches."""
    listed = (await api.get(f"{new}?fieldSelector=host%3Dn&limit=30")).json
    assert len(listed["items"]) == 20
    since = listed["metadata"]["resourceVersion"]
    watching = asyncio.create_task(api.events(f"{new}?watch=1&resourceVersion={since}&fieldSelector=host%3Dn", 3))
    await asyncio.sleep(0.2)
    for name, address in (("a", "other:1"), ("n1", "n:99"), ("n1", "gone:1"), ("a", "n:1")):
        assert (await api.patch(f"{old}/{name}", {"hostPort": address})).status == 200
    seen = [(event["type"], event["object"]["metadata"]["name"]) for event in await watching]
    assert seen == [("MODIFIED", "n1"), ("DELETED", "n1"), ("ADDED", "a")]


async def test_objects_stored_in_an_older_version_are_served_and_migrated_by_writing(
    api: Api, space: str, group: str
) -> None:
    definition = versioned(group, {"strategy": "None"})
    for version in definition["spec"]["versions"]:
        version.pop("selectableFields", None)
        version["schema"]["openAPIV3Schema"]["properties"] = {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        }
    await establish(api, definition)
    old, new = (f"/apis/{group}/{name}/namespaces/{space}/endpoints" for name in ("v1beta1", "v1"))
    try:
        await api.post(old, {"metadata": {"name": "a"}, "spec": {"any": 1}})
        current = (await api.get(f"{CRDS}/endpoints.{group}")).json
        current["spec"]["versions"][0]["storage"], current["spec"]["versions"][1]["storage"] = False, True
        changed = (await api.put(f"{CRDS}/endpoints.{group}", current)).json
        assert changed["status"]["storedVersions"] == ["v1beta1", "v1"]
        for path, version in ((old, "v1beta1"), (new, "v1")):
            shown = (await api.get(f"{path}/a")).json
            assert (shown["apiVersion"], shown["spec"]) == (f"{group}/{version}", {"any": 1})
        before = (await api.get(f"{new}/a")).json
        migrated = (await api.put(f"{new}/a", before)).json
        assert migrated["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
        again = (await api.put(f"{new}/a", migrated)).json
        assert again["metadata"]["resourceVersion"] == migrated["metadata"]["resourceVersion"]
        changed["spec"]["versions"].pop(0)
        refused = await api.put(f"{CRDS}/endpoints.{group}", changed)
        assert "must remain in spec.versions until a storage migration" in refused.failure[2]
        assert (
            await api.patch(f"{CRDS}/endpoints.{group}/status", {"status": {"storedVersions": ["v1"]}})
        ).status == 200
        current = (await api.get(f"{CRDS}/endpoints.{group}")).json
        current["spec"]["versions"].pop(0)
        ending = asyncio.create_task(api.events(f"{old}?watch=1&resourceVersion=0", 99))
        await asyncio.sleep(0.2)
        assert (await api.put(f"{CRDS}/endpoints.{group}", current)).status == 200
        assert [event["type"] for event in await ending] == ["ADDED"], "a watch ends with its version"
        assert (await api.get(f"{old}/a")).status == 404
        assert (await api.get(f"{new}/a")).status == 200
    finally:
        await api.delete(f"{CRDS}/endpoints.{group}")


# -- the rest of the cluster


def test_a_restarted_server_serves_custom_kinds_from_the_first_request_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    try:
        kubectl = Kubectl(kubectls.current(), server.kubeconfig)
        kubectl("apply", "-f", "-", stdin=orjson.dumps(crontab("stable.example.com")))
        kubectl("wait", "--for=condition=established", "--timeout=10s", "crd/crontabs.stable.example.com")
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
        kubectl("wait", "--for=condition=established", "--timeout=10s", f"crd/crontabs.{group}")

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
        kubectl("delete", "crontab", "owner", "--timeout=10s")
        eventually(lambda: not kubectl("get", "crontabs", "-o", "name"), what="its dependent is collected")
        eventually(lambda: '"0"' in used())
        kubectl("apply", "-f", "-", stdin=orjson.dumps(one(group, "left")))
        kubectl("delete", "namespace", "team", "--timeout=30s")
        assert not kubectl("get", "crontabs", "--all-namespaces", "-o", "name")
