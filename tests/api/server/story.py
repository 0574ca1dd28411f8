"""The life of one object through every door of the API; each step says which pairs of the grid it visited."""

from __future__ import annotations

import asyncio
from typing import Any

import yaml

from orca.api.builtin import (
    APISERVICES,
    CUSTOMRESOURCEDEFINITIONS,
    FLOWSCHEMAS,
    NAMESPACES,
    PRIORITYLEVELCONFIGURATIONS,
)
from orca.api.finalizers import IN_USE
from orca.api.resources import Resource, Subresource
from tests.api.server.api import PATCH, Answer, Api
from tests.api.server.grid import patch_types
from tests.api.server.samples import DENIED, STATUSES, name_of, sample
from tests.support.patience import PATIENCE

TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
TENDED = {APISERVICES, CUSTOMRESOURCEDEFINITIONS, FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS}
"""Kinds whose status the server itself keeps, also without controllers."""
PATCH["apply"] = "application/apply-patch+yaml"


def collection(row: Resource, space: str) -> str:
    """The path of the kind's collection."""
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    return f"{root}/namespaces/{space}/{row.plural}" if row.namespaced else f"{root}/{row.plural}"


def ok(answer: Answer, status: int = 200) -> Any:
    """The JSON of an answer that has to be a success."""
    assert answer.status == status, answer.raw
    return answer.json


class Story:
    """Steps run in the order they stand here; ``visited`` collects the pairs."""

    def __init__(self, api: Api, row: Resource, space: str, request_pem: str) -> None:
        self.api, self.row, self.space, self.pem = api, row, space, request_pem
        self.path, self.name = collection(row, space), name_of(row)
        self.one = f"{self.path}/{self.name}"
        self.visited: set[str] = set()
        self.created: Any = None
        self.before = ""

    def body(self) -> Any:
        return sample(self.row, self.space, self.pem)

    def did(self, *pairs: str) -> None:
        self.visited.update(pairs)

    async def tell(self) -> None:
        """All steps."""
        verbs = self.row.verbs
        if "create" in verbs:
            await self._try_creating()
            await self._create()
        if "get" in verbs:
            await self._get()
        if "list" in verbs:
            await self._list()
        if "update" in verbs:
            await self._update()
        if "patch" in verbs:
            await self._patch()
        if "watch" in verbs:
            await self._watch()
        for sub in self.row.subresources:
            await self._subresource(sub)
        if "delete" in verbs:
            await self._delete()
        if "deletecollection" in verbs:
            await self._clear()

    # -- create

    async def _try_creating(self) -> None:
        body, path = self.body(), self.path
        ok(await self.api.post(f"{path}?dryRun=All", body), 201)
        assert (await self.api.get(self.one)).status == 404
        self.did("create:dryRun")
        refused = await self.api.post(f"{path}?fieldValidation=Strict", {**body, "bogus": 1})
        assert refused.failure[0] == 400
        assert 'strict decoding error: unknown field "bogus"' in refused.failure[2]
        self.did("create:Strict")
        warned = await self.api.post(f"{path}?dryRun=All&fieldValidation=Warn", {**body, "bogus": 1})
        assert warned.status == 201, warned.raw
        assert 'unknown field \\"bogus\\"' in warned.headers["Warning"]
        assert "bogus" not in warned.json
        self.did("create:Warn")
        silent = await self.api.post(f"{path}?dryRun=All&fieldValidation=Ignore", {**body, "bogus": 1})
        assert silent.status == 201, silent.raw
        assert "unknown field" not in silent.headers.get("Warning", "")
        assert "bogus" not in silent.json
        self.did("create:Ignore")

    async def _create(self) -> None:
        self.before = ok(await self.api.get(self.path))["metadata"]["resourceVersion"]
        self.created = created = ok(await self.api.post(self.path, self.body()), 201)
        assert (created["kind"], created["apiVersion"]) == (self.row.kind, self.row.api_version)
        fields = created["metadata"]
        assert fields["uid"]
        assert fields["creationTimestamp"]
        assert fields["resourceVersion"]
        again = await self.api.post(self.path, self.body())
        assert again.failure == (409, "AlreadyExists", f'{self.row.group_resource} "{self.name}" already exists')
        self.did("create", "create:again")

    # -- read

    async def _get(self) -> None:
        assert desired(ok(await self.api.get(self.one))) == desired(self.created)
        told = await self.api.get(self.one, Accept="application/yaml")
        assert told.headers["Content-Type"] == "application/yaml"
        assert yaml.load(told.raw, yaml.CBaseLoader)["metadata"]["uid"] == self.created["metadata"]["uid"]
        table = ok(await self.api.get(self.one, Accept=TABLE))
        self._check_table(table)
        partial = ok(await self.api.get(self.one, Accept=PARTIAL))
        assert (partial["kind"], partial["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
        assert desired({"metadata": partial["metadata"]}) == desired({"metadata": self.created["metadata"]})
        assert set(partial) == {"kind", "apiVersion", "metadata"}
        foreign = await self.api.get(self.one, Accept="application/vnd.kubernetes.protobuf")
        assert foreign.failure[:2] == (406, "NotAcceptable")
        self.did("get:json", "get:yaml", "get:Table", "get:PartialObjectMetadata", "get:406")

    def _check_table(self, table: Any) -> None:
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        columns = table["columnDefinitions"]
        assert columns[0]["name"] in ("Name", "Last Seen")
        row = next(row for row in table["rows"] if row["object"]["metadata"]["name"] == self.name)
        assert row["object"]["kind"] == "PartialObjectMetadata"
        assert len(row["cells"]) == len(columns)
        for column, cell in zip(columns, row["cells"], strict=True):
            # upstream puts numbers and flags into columns of type string, too
            assert cell is None or isinstance(cell, str | int | float), (column, cell)
            assert column["description"], column

    async def _list(self) -> None:
        def names(answer: Any) -> list[str]:
            return [item["metadata"]["name"] for item in answer["items"]]

        whole = ok(await self.api.get(self.path))
        assert (whole["kind"], whole["apiVersion"]) == (self.row.list_kind, self.row.api_version)
        assert self.name in names(whole)
        told = await self.api.get(self.path, Accept="application/yaml")
        assert yaml.load(told.raw, yaml.CBaseLoader)["kind"] == self.row.list_kind
        self._check_table(ok(await self.api.get(self.path, Accept=TABLE)))
        partial = ok(await self.api.get(self.path, Accept=PARTIAL_LIST))
        assert partial["kind"] == "PartialObjectMetadataList"
        assert self.name in names(partial)
        assert names(ok(await self.api.get(f"{self.path}?labelSelector=sample%3Dyes"))) == [self.name]
        assert names(ok(await self.api.get(f"{self.path}?labelSelector=sample%21%3Dyes%2Csample"))) == []
        assert names(ok(await self.api.get(f"{self.path}?fieldSelector=metadata.name%3D{self.name}"))) == [self.name]
        unknown = await self.api.get(f"{self.path}?fieldSelector=spec.nonsense%3Dx")
        assert unknown.failure == (400, "BadRequest", "field label not supported: spec.nonsense")
        paged = ok(await self.api.get(f"{self.path}?limit=1"))
        assert len(paged["items"]) == 1
        self.did(*(f"list:{form}" for form in ("json", "yaml", "Table", "PartialObjectMetadataList")))
        self.did("list:labelSelector", "list:fieldSelector", "list:limit")

    # -- write

    async def _settled(self) -> Any:
        """The object once the server's own controllers have said what they have to say about it."""
        seen = ok(await self.api.get(self.one))
        for attempt in range(400 if self.row in TENDED else 0):
            await asyncio.sleep(0.05)
            before, seen = seen, ok(await self.api.get(self.one))
            quiet = self.row == PRIORITYLEVELCONFIGURATIONS and attempt >= 10  # there is nothing to say of most
            if seen == before and (seen.get("status") or quiet):
                break
        return seen

    async def _update(self) -> None:
        current = await self._settled()
        changed = {**current, "metadata": {**current["metadata"], "annotations": {"step": "update"}}}
        dry = ok(await self.api.put(f"{self.one}?dryRun=All", changed))
        assert dry["metadata"]["annotations"]["step"] == "update"
        assert desired(ok(await self.api.get(self.one))) == desired(current)
        strict = await self.api.put(f"{self.one}?fieldValidation=Strict", {**changed, "bogus": 1})
        assert strict.failure[0] == 400
        updated = ok(await self.api.put(self.one, changed))
        assert updated["metadata"]["annotations"]["step"] == "update"
        assert updated["metadata"]["uid"] == self.created["metadata"]["uid"]
        stale = {**changed, "metadata": {**changed["metadata"], "annotations": {"step": "stale"}}}
        assert (await self.api.put(self.one, stale)).failure[:2] == (409, "Conflict")
        self.did("update", "update:dryRun", "update:Strict", "update:stale")

    def _patch_body(self, kind: str, step: str) -> Any:
        if kind == "json":
            return [
                {"op": "test", "path": "/metadata/name", "value": self.name},
                {"op": "add", "path": "/metadata/annotations", "value": {"step": step}},
            ]
        patch = {"metadata": {"annotations": {"step": step}}}
        if kind == "apply":
            patch["metadata"]["name"] = self.name  # type: ignore[assignment]
            return {"apiVersion": self.row.api_version, "kind": self.row.kind, **patch}
        return patch

    async def _patch(self) -> None:
        for kind in patch_types(self.row):
            query = "fieldManager=story&force=true" if kind == "apply" else ""
            current = ok(await self.api.get(self.one))
            dry = ok(
                await self.api.patch(f"{self.one}?dryRun=All&{query}", self._patch_body(kind, f"dry-{kind}"), kind)
            )
            assert dry["metadata"]["annotations"]["step"] == f"dry-{kind}"
            assert desired(ok(await self.api.get(self.one))) == desired(current)
            patched = ok(await self.api.patch(f"{self.one}?{query}", self._patch_body(kind, kind), kind))
            assert patched["metadata"]["annotations"]["step"] == kind
            assert patched["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]
            assert desired(ok(await self.api.get(self.one))) == desired(patched)
            self.did(f"patch:{kind}", f"patch:dryRun:{kind}")
        bogus = await self.api.patch(f"{self.one}?fieldValidation=Strict", {"bogus": 1}, "merge")
        assert 'unknown field "bogus"' in bogus.failure[2]
        assert (await self.api.patch(self.one, b"{}", "text/plain")).failure[:2] == (415, "UnsupportedMediaType")
        self.did("patch:Strict")

    async def _watch(self) -> None:
        only = f"fieldSelector=metadata.name%3D{self.name}"
        writes = 1 + ("update" in self.row.verbs) + len(patch_types(self.row))
        told = self.row in TENDED
        last = ok(await self.api.get(self.one))
        events = await self.api.events(
            f"{self.path}?watch=1&resourceVersion={self.before}&{only}",
            writes,
            until=last["metadata"]["resourceVersion"],
        )
        assert [event["type"] for event in events] == ["ADDED", *["MODIFIED"] * (len(events) - 1)]
        assert events[0]["object"] == self.created
        assert events[-1]["object"] == last
        assert told or len(events) == writes
        (shown,) = await self.api.events(f"{self.path}?watch=1&{only}", 1, Accept=TABLE)
        self._check_table(shown["object"])
        (partial,) = await self.api.events(f"{self.path}?watch=1&{only}", 1, Accept=PARTIAL)
        assert partial["object"]["kind"] == "PartialObjectMetadata"
        assert partial["object"]["metadata"]["name"] == self.name
        initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        first, mark = await self.api.events(f"{self.path}?watch=1&{only}&{initial}", 2)
        assert first["object"] == last
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["kind"] == self.row.kind
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        self.did("watch:json", "watch:Table", "watch:PartialObjectMetadata", "watch:initialEvents")

    # -- subresources

    async def _subresource(self, sub: Subresource) -> None:
        step = getattr(self, f"_{sub.name}", None)
        assert step is not None, f"nothing visits the subresource {sub.name} of {self.row.group_resource}"
        await step(sub)

    async def _status(self, sub: Subresource) -> None:
        """What goes in through the status door stays out of the rest, and the other way round."""
        one = f"{self.one}/status"
        wanted = STATUSES[self.row.group_resource]
        current = ok(await self.api.get(one))
        self.did("status:get")
        other = {key: value for key, value in current.items() if key not in ("status", "metadata")}
        written = ok(await self.api.put(one, {**current, "status": {**current.get("status", {}), **wanted}}))
        assert contains(written["status"], wanted), written["status"]
        assert {key: value for key, value in written.items() if key not in ("status", "metadata")} == other
        self.did("status:update")
        for kind in patch_types(self.row):
            if kind == "json":
                patch: Any = [{"op": "add", "path": "/status", "value": written["status"]}]
            else:
                patch = {"status": wanted}
            query = "?fieldManager=story-status&force=true" if kind == "apply" else ""
            if kind == "apply":
                patch = {"apiVersion": self.row.api_version, "kind": self.row.kind, **patch}
                patch["metadata"] = {"name": self.name}
            patched = ok(await self.api.patch(one + query, patch, kind))
            assert contains(patched["status"], wanted), patched["status"]
            self.did(f"status:patch:{kind}")
        kept = {key: value for key, value in ok(await self.api.get(self.one)).items() if key != "status"}
        through_main = ok(await self.api.put(self.one, kept))
        assert contains(through_main["status"], wanted), through_main["status"]

    async def _scale(self, sub: Subresource) -> None:
        one = f"{self.one}/scale"
        current = ok(await self.api.get(one))
        assert (current["kind"], current["apiVersion"]) == ("Scale", "autoscaling/v1")
        assert current["status"]["selector"] == "app=sample"
        self.did("scale:get")
        written = ok(await self.api.put(one, {**current, "spec": {"replicas": 3}}))
        assert written["spec"] == {"replicas": 3}
        self.did("scale:update")
        for replicas, kind in enumerate(patch_types(self.row), 4):
            patch: Any = {"spec": {"replicas": replicas}}
            if kind == "json":
                patch = [{"op": "replace", "path": "/spec/replicas", "value": replicas}]
            query = "?fieldManager=story-scale&force=true" if kind == "apply" else ""
            if kind == "apply":
                patch = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": self.name}, **patch}
            scaled = ok(await self.api.patch(one + query, patch, kind))
            assert scaled["spec"] == {"replicas": replicas}
            assert ok(await self.api.get(self.one))["spec"]["replicas"] == replicas
            self.did(f"scale:patch:{kind}")

    async def _finalize(self, sub: Subresource) -> None:
        current = ok(await self.api.get(self.one))
        wanted = {**current, "spec": {"finalizers": ["kubernetes", "example.com/mine"]}}
        done = ok(await self.api.put(f"{self.one}/finalize", wanted))
        assert done["spec"]["finalizers"] == ["kubernetes", "example.com/mine"]
        through_main = ok(await self.api.put(self.one, {**done, "spec": {"finalizers": []}}))
        assert through_main["spec"]["finalizers"] == ["kubernetes", "example.com/mine"]
        ok(await self.api.put(f"{self.one}/finalize", {**through_main, "spec": {"finalizers": []}}))
        self.did("finalize:update")

    async def _approval(self, sub: Subresource) -> None:
        one = f"{self.one}/approval"
        current = ok(await self.api.get(one))
        self.did("approval:get")
        current["status"]["conditions"] = [DENIED]
        written = ok(await self.api.put(one, current))
        assert written["status"]["conditions"][-1]["type"] == "Denied"
        self.did("approval:update")
        for kind in patch_types(self.row):
            patch: Any = {"metadata": {"annotations": {"approval": kind}}}
            if kind == "json":
                patch = [{"op": "add", "path": "/metadata/annotations", "value": {"approval": kind}}]
            query = "?fieldManager=story-approval&force=true" if kind == "apply" else ""
            if kind == "apply":
                patch["metadata"]["name"] = self.name
                patch = {"apiVersion": self.row.api_version, "kind": self.row.kind, **patch}
            ok(await self.api.patch(one + query, patch, kind))
            self.did(f"approval:patch:{kind}")

    async def _token(self, sub: Subresource) -> None:
        made = ok(await self.api.post(f"{self.one}/token", {"spec": {"audiences": [], "expirationSeconds": 600}}), 201)
        assert made["kind"] == "TokenRequest"
        assert made["status"]["token"].count(".") == 2
        self.did("token:create")

    async def _binding(self, sub: Subresource) -> None:
        refused = await self.api.post(f"{self.one}/binding", {"target": {"kind": "Pod", "name": "x"}})
        assert refused.failure[:2] == (422, "Invalid")
        bound = ok(await self.api.post(f"{self.one}/binding?dryRun=All", {"target": {"name": "nowhere"}}), 201)
        assert bound["status"] == "Success"
        self.did("binding:create")

    async def _eviction(self, sub: Subresource) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": self.name}}
        done = ok(await self.api.post(f"{self.one}/eviction?dryRun=All", body), 201)
        assert done["status"] == "Success"
        ok(await self.api.get(self.one))
        self.did("eviction:create")

    async def _ephemeralcontainers(self, sub: Subresource) -> None:
        one = f"{self.one}/ephemeralcontainers"
        current = ok(await self.api.get(one))
        self.did("ephemeralcontainers:get")
        current["spec"]["ephemeralContainers"] = [{"name": "debug-0", "image": "busybox:1"}]
        ok(await self.api.put(one, current))
        self.did("ephemeralcontainers:update")
        for number, kind in enumerate(patch_types(self.row), 1):
            added: Any = {"name": f"debug-{number}", "image": "busybox:1"}
            present = ok(await self.api.get(one))["spec"]["ephemeralContainers"]
            patch: Any = {"spec": {"ephemeralContainers": [*present, added]}}
            if kind == "json":
                patch = [{"op": "add", "path": "/spec/ephemeralContainers/-", "value": added}]
            query = "?fieldManager=story-debug&force=true" if kind == "apply" else ""
            if kind == "apply":
                patch = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, **patch}
            patched = ok(await self.api.patch(one + query, patch, kind))
            assert added["name"] in [one["name"] for one in patched["spec"]["ephemeralContainers"]]
            self.did(f"ephemeralcontainers:patch:{kind}")

    async def _resize(self, sub: Subresource) -> None:
        one = f"{self.one}/resize"
        current = ok(await self.api.get(one))
        self.did("resize:get")
        resized = ok(await self.api.put(one, current))
        self.did("resize:update")
        assert resized["spec"] == current["spec"]
        for kind in patch_types(self.row):
            patch: Any = {"spec": {"containers": [{"name": "main", "image": "other:1"}]}}
            if kind == "merge":
                patch = {"metadata": {}}
            elif kind == "json":
                patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": "other:1"}]
            query = "?fieldManager=story-resize&force=true" if kind == "apply" else ""
            if kind == "apply":
                patch = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}}
            patched = ok(await self.api.patch(one + query, patch, kind))
            assert patched["spec"]["containers"][0]["image"] == "busybox:1"  # nothing but resources goes through here
            self.did(f"resize:patch:{kind}")

    async def _log(self, sub: Subresource) -> None:
        told = await self.api.get(f"{self.one}/log?container=main")
        assert (told.status, told.raw) == (200, b"")
        refused = await self.api.get(f"{self.one}/log?container=other")
        assert refused.failure == (400, "BadRequest", f"container other is not valid for pod {self.name}")
        self.did("log:get")

    async def _stream(self, sub: Subresource, query: str) -> None:
        for verb, method in (("get", "GET"), ("create", "POST")):
            answer = await self.api.call(method, f"{self.one}/{sub.name}?{query}")
            assert answer.failure == (400, "BadRequest", f"pod {self.name} does not have a host assigned")
            self.did(f"{sub.name}:{verb}")

    async def _attach(self, sub: Subresource) -> None:
        await self._stream(sub, "container=main&stdout=1")

    async def _exec(self, sub: Subresource) -> None:
        await self._stream(sub, "container=main&stdout=1&command=true")

    async def _portforward(self, sub: Subresource) -> None:
        await self._stream(sub, "ports=80")

    async def _proxy(self, sub: Subresource) -> None:
        """The sample leads nowhere; what matters is that the door is there for each method, and says so."""
        methods = {"create": "POST", "delete": "DELETE", "get": "GET", "patch": "PATCH", "update": "PUT"}
        for verb, method in methods.items():
            answer = await self.api.call(method, f"{self.one}/proxy/")
            assert answer.failure[0] in (400, 500, 503), answer.raw
            self.did(f"proxy:{verb}")

    # -- delete

    async def _delete(self) -> None:
        ok(await self.api.delete(f"{self.one}?dryRun=All"))
        ok(await self.api.get(self.one))
        wrong = await self.api.delete(self.one, {"preconditions": {"uid": "other"}})
        assert wrong.failure[:2] == (409, "Conflict")
        ok(await self.api.delete(self.one, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}))
        if self.row == NAMESPACES:
            # marked; its finalizers were emptied above, so the second deletion ends it
            await self.api.delete(self.one)
        await self._gone()
        self.did("delete", "delete:dryRun", "delete:precondition")

    async def _gone(self) -> None:
        if self.row == CUSTOMRESOURCEDEFINITIONS:
            # It goes when its objects have gone, of which there are none.
            async with asyncio.timeout(PATIENCE):
                while (left := await self.api.get(self.one)).status == 200:
                    assert left.json["metadata"]["deletionTimestamp"]
                    await asyncio.sleep(0.01)
        if self.row in IN_USE:
            # Nobody uses it, as the controller that protects it would find; there is none here.
            left = ok(await self.api.get(self.one))["metadata"]
            assert left["deletionTimestamp"]
            assert left["finalizers"] == [IN_USE[self.row]]
            ok(await self.api.patch(self.one, {"metadata": {"finalizers": None}}))
        assert (await self.api.get(self.one)).failure[:2] == (404, "NotFound")

    async def _clear(self) -> None:
        ok(await self.api.post(self.path, self.body()), 201)
        selected = f"{self.path}?labelSelector=sample%3Dyes"
        dry = ok(await self.api.delete(f"{selected}&dryRun=All"))
        assert [item["metadata"]["name"] for item in dry["items"]] == [self.name]
        ok(await self.api.get(self.one))
        missed = ok(await self.api.delete(f"{self.path}?labelSelector=sample%3Dno"))
        assert missed["items"] == []
        options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        cleared = ok(await self.api.delete(selected, options))
        assert cleared["kind"] == self.row.list_kind
        assert [item["metadata"]["name"] for item in cleared["items"]] == [self.name]
        await self._gone()
        self.did("deletecollection:labelSelector", "deletecollection:dryRun")


def desired(obj: Any) -> Any:
    """An object without what the server itself writes into it."""
    kept = {key: value for key, value in obj.items() if key != "status"}
    system = ("resourceVersion", "managedFields")
    kept["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in system}
    return kept


def contains(whole: Any, part: Any) -> bool:
    """Whether all of ``part`` is in ``whole``: members of mappings, and items of lists in their order."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        if not isinstance(whole, list):
            return False
        return all(any(contains(one, item) for one in whole) for item in part)
    return bool(whole == part)
