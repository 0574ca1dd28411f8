"""A Client over memory that behaves like the API server, for unit tests of controllers, scheduler and agents.

Real: resourceVersions, conflicts, preconditions, generateName, status kept apart from spec, generation, finalizers,
graceful deletion of pods, selectors, watches with resume and 410, binding, eviction and scale. Left out: validation,
defaults, admission and garbage collection (nothing happens that no test asked for). The tests of the real client and
store run the same contract suite against it.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orca.api import errors, selectors
from orca.api.builtin import DEPLOYMENTS, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj, key, meta, name, namespace
from orca.api.patching import json_patch, merge_patch, strategic_merge
from orca.api.resources import Resource
from orca.api.times import format_time
from orca.client.base import Client, ObjectList, Patch, PatchKind, Propagation, WatchEvent, WatchStream
from orca.client.clock import Clock, VirtualClock

Intercept = Callable[[str, Resource, str, str], None]
"""`(verb, resource, "ns/name", subresource)`, called before every verb; raises ApiError to make it fail."""

POD_GRACE_SECONDS = 30


@dataclass(slots=True)
class _Kept:
    """All of one storage: objects by key and what happened to them."""

    objects: dict[str, Obj] = field(default_factory=dict)
    history: list[tuple[int, str, Obj, Obj | None]] = field(default_factory=list)
    """(revision, type, object, previous state)"""
    compacted: int = 0
    watches: list[FakeWatch] = field(default_factory=list)


class FakeClient(Client):
    """Start with `FakeClient(obj, obj…)`-like `await fake.create(...)` or `fake.seed(resource, obj)` outside tasks."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.revision = 0
        self.calls: list[tuple[str, str, str]] = []
        """Writes so far: (verb, "pods" or "pods/status", "ns/name")."""
        self.intercepts: list[Intercept] = []
        self._kept: dict[str, _Kept] = {}

    def __repr__(self) -> str:
        return f"<FakeClient at {self.revision}: {sum(len(kept.objects) for kept in self._kept.values())} objects>"

    # --- for tests ---------------------------------------------------------------------------------------------------

    def seed(self, resource: Resource, obj: Obj) -> Obj:
        """Creates without a task, an intercept or a record in `calls`."""
        return self._create(resource, obj, namespace(obj))

    def objects(self, resource: Resource) -> list[Obj]:
        """All objects, in order of creation."""
        return list(self._of(resource).objects.values())

    def drop_watches(self) -> None:
        """Ends every watch as a server that restarts does."""
        for kept in self._kept.values():
            for watch in list(kept.watches):
                watch.end(errors.service_unavailable("connection lost"))

    def compact(self) -> None:
        """Forgets history: watches from before now get 410."""
        for kept in self._kept.values():
            kept.history.clear()
            kept.compacted = self.revision

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        await self._enter("get", resource, namespace, name, subresource)
        found = self._find(resource, namespace, name)
        return _scale_of(found) if subresource == "scale" else found

    async def list(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", limit: int = 0
    ) -> ObjectList:
        await self._enter("list", resource, namespace, "", "")
        matches = _matcher(resource, namespace, labels, fields)
        items = [obj for _, obj in sorted(self._of(resource).objects.items()) if matches(obj)]
        return ObjectList(items, str(self.revision))

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        since: str = "",
        bookmarks: bool = True,
    ) -> FakeWatch:
        return FakeWatch(self, resource, _matcher(resource, namespace, labels, fields), since)

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        await self._enter("create", resource, namespace or _space(obj), _name(obj), "", write=True)
        return self._create(resource, obj, namespace)

    async def update(self, resource: Resource, obj: Obj, *, subresource: str = "") -> Obj:
        await self._enter("update", resource, _space(obj), _name(obj), subresource, write=True)
        return self._update(resource, obj, subresource)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str = "",
        *,
        kind: PatchKind = "merge",
        subresource: str = "",
    ) -> Obj:
        await self._enter("patch", resource, namespace, name, subresource, write=True)
        if kind == "apply" and isinstance(patch, dict):
            try:
                self._find(resource, namespace, name)
            except ApiError:
                return self._create(resource, patch, namespace)
        current = self._find(resource, namespace, name)
        base = _scale_of(current) if subresource == "scale" else current
        # A patch without a resourceVersion of its own is no precondition: the patched object carries the current one.
        return self._update(resource, _patched(resource, base, patch, kind), subresource)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation = "",
    ) -> Obj:
        await self._enter("delete", resource, namespace, name, "", write=True)
        current = self._find(resource, namespace, name)
        metadata = current["metadata"]
        for asked, actual, what in ((uid, metadata["uid"], "UID"), (resource_version, _version(current), "RV")):
            if asked and asked != actual:
                raise errors.conflict(resource, name, f"Precondition failed: {what}: {asked}, {actual} in object meta")
        return self._delete(resource, current, grace_seconds, propagation)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation = "",
    ) -> None:
        await self._enter("deletecollection", resource, namespace, "", "", write=True)
        matches = _matcher(resource, namespace, labels, fields)
        for obj in [obj for obj in self._of(resource).objects.values() if matches(obj)]:
            self._delete(resource, obj, grace_seconds, propagation)

    async def create_sub(self, resource: Resource, name: str, namespace: str, subresource: str, body: Obj) -> Obj:
        await self._enter("create", resource, namespace, name, subresource, write=True)
        current = self._find(resource, namespace, name)
        if subresource == "binding":
            return self._bind(resource, current, body)
        if subresource == "eviction":
            options = body.get("deleteOptions") or {}
            return self._delete(resource, current, options.get("gracePeriodSeconds"), "")
        if subresource == "token":
            expires = int((body.get("spec") or {}).get("expirationSeconds") or 3600)
            stamp = self.clock.now().timestamp() + expires
            until = format_time(self.clock.now().fromtimestamp(stamp, tz=self.clock.now().tzinfo))
            return {**body, "status": {"token": f"token-of-{name}", "expirationTimestamp": until}}
        raise errors.no_such_page()

    # --- rules -------------------------------------------------------------------------------------------------------

    async def _enter(
        self, verb: str, resource: Resource, namespace: str, name: str, subresource: str, *, write: bool = False
    ) -> None:
        # Every request gives other tasks a turn, as a real one does.
        await asyncio.sleep(0)
        object_key = f"{namespace}/{name}" if namespace else name
        for intercept in self.intercepts:
            intercept(verb, resource, object_key, subresource)
        if write:
            plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
            self.calls.append((verb, plural, object_key))

    def _of(self, resource: Resource) -> _Kept:
        return self._kept.setdefault(resource.storage, _Kept())

    def _find(self, resource: Resource, namespace: str, name: str) -> Obj:
        found = self._of(resource).objects.get(f"{namespace}/{name}" if namespace else name)
        if found is None:
            raise errors.not_found(resource, name)
        return found

    def _create(self, resource: Resource, obj: Obj, namespace: str) -> Obj:
        new = copy.deepcopy(obj)
        new.setdefault("apiVersion", resource.api_version)
        new.setdefault("kind", resource.kind)
        metadata = new.setdefault("metadata", {})
        if resource.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace") or "default"
        if not metadata.get("name"):
            metadata["name"] = f"{metadata.get('generateName', '')}{uuid.uuid4().hex[:5]}"
        if key(new) in self._of(resource).objects:
            raise errors.already_exists(resource, metadata["name"])
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", format_time(self.clock.now()))
        if "spec" in new:
            metadata.setdefault("generation", 1)
        return self._commit(resource, "ADDED", new)

    def _update(self, resource: Resource, obj: Obj, subresource: str) -> Obj:
        current = self._find(resource, _space(obj), _name(obj))
        asked = _version(obj)
        if asked and asked != _version(current):
            raise errors.conflict(resource, name(current))
        if obj["metadata"].get("uid") not in (None, current["metadata"]["uid"]):
            raise errors.conflict(resource, name(current), "Precondition failed: UID in precondition does not match")
        if subresource == "scale":
            new = copy.deepcopy(current)
            new["spec"]["replicas"] = obj["spec"].get("replicas", 0)
        else:
            new = copy.deepcopy(obj)
            _keep_other_half(resource, new, current, subresource)
        metadata = new["metadata"]
        for fixed in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            metadata.pop(fixed, None)
            if fixed in current["metadata"]:
                metadata[fixed] = current["metadata"][fixed]
        noted, before = metadata.get("annotations"), meta(current).get("annotations")
        redone = resource == DEPLOYMENTS and not subresource and noted != before
        if redone or new.get("spec") != current.get("spec"):
            metadata["generation"] = int(metadata.get("generation") or 0) + 1
        metadata["resourceVersion"] = _version(current)
        if new == current:
            return current
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and _may_go(resource, new):
            return self._commit(resource, "DELETED", new)
        result = self._commit(resource, "MODIFIED", new)
        return _scale_of(result) if subresource == "scale" else result

    def _delete(self, resource: Resource, current: Obj, grace: int | None, propagation: str) -> Obj:
        new = copy.deepcopy(current)
        metadata = new["metadata"]
        finalizers = list(metadata.get("finalizers") or [])
        for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
            if propagation == policy and finalizer not in finalizers:
                finalizers.append(finalizer)
        if finalizers:
            metadata["finalizers"] = finalizers
        seconds = 0
        if resource == PODS and (current.get("spec") or {}).get("nodeName"):
            default = current["spec"].get("terminationGracePeriodSeconds", POD_GRACE_SECONDS)
            seconds = default if grace is None else grace
            phase = (current.get("status") or {}).get("phase")
            seconds = 0 if phase in ("Succeeded", "Failed") else seconds
        if not finalizers and not seconds:
            return self._commit(resource, "DELETED", new)
        if not metadata.get("deletionTimestamp"):
            until = self.clock.now().timestamp() + seconds
            metadata["deletionTimestamp"] = format_time(self.clock.now().fromtimestamp(until, self.clock.now().tzinfo))
            metadata["generation"] = int(metadata.get("generation") or 0) + 1
            metadata["deletionGracePeriodSeconds"] = seconds
        elif seconds < int(metadata.get("deletionGracePeriodSeconds") or 0):
            metadata["deletionGracePeriodSeconds"] = seconds
        return current if new == current else self._commit(resource, "MODIFIED", new)

    def _bind(self, resource: Resource, pod: Obj, body: Obj) -> Obj:
        if pod["spec"].get("nodeName"):
            why = f"pod {name(pod)} is already assigned to node {pod['spec']['nodeName']!r}"
            raise errors.conflict(resource, name(pod), why)
        if pod["metadata"].get("deletionTimestamp"):
            why = f"pod {name(pod)} is being deleted, cannot be assigned to a host"
            raise errors.conflict(resource, name(pod), why)
        new = copy.deepcopy(pod)
        new["spec"]["nodeName"] = body["target"]["name"]
        status = new.setdefault("status", {})
        others = [one for one in status.get("conditions") or [] if one["type"] != "PodScheduled"]
        stamp = format_time(self.clock.now())
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": stamp}
        status["conditions"] = [*others, scheduled]
        self._commit(resource, "MODIFIED", new)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _commit(self, resource: Resource, kind: str, new: Obj) -> Obj:
        kept = self._of(resource)
        old = kept.objects.get(key(new))
        self.revision += 1
        new["metadata"]["resourceVersion"] = str(self.revision)
        if kind == "DELETED":
            del kept.objects[key(new)]
        else:
            kept.objects[key(new)] = new
        kept.history.append((self.revision, kind, new, old))
        for watch in kept.watches:
            watch.feed(kind, new, old)
        return new


class FakeWatch(WatchStream):
    """A watch of the fake; `end` closes it as the server would."""

    def __init__(self, client: FakeClient, resource: Resource, matches: Callable[[Obj], bool], since: str) -> None:
        self._client = client
        self._resource = resource
        self._matches = matches
        self._since = since
        self._events: deque[WatchEvent] = deque()
        self._arrived = asyncio.Event()
        self._error: ApiError | None = None
        self._ended = False
        self._started = False

    def _start(self) -> None:
        self._started = True
        client, resource = self._client, self._resource
        for intercept in client.intercepts:
            intercept("watch", resource, "", "")
        kept = client._of(resource)
        if self._since:
            since = int(self._since)
            if since < kept.compacted:
                raise errors.expired(f"too old resource version: {since} ({kept.compacted})")
            for revision, kind, new, old in kept.history:
                if revision > since:
                    self.feed(kind, new, old)
        else:
            for obj in kept.objects.values():
                self.feed("ADDED", obj, None)
        kept.watches.append(self)

    def feed(self, kind: str, new: Obj, old: Obj | None) -> None:
        """Takes one change, as the selector sees it."""
        was = old is not None and self._matches(old)
        shown = kind != "DELETED" and self._matches(new)
        if shown:
            self._events.append(WatchEvent("MODIFIED" if was else "ADDED", new))
        elif was:
            self._events.append(WatchEvent("DELETED", new))
        self._arrived.set()

    def end(self, error: ApiError | None = None) -> None:
        """Closes it, with an error when given."""
        self._error = error
        self._ended = True
        self._arrived.set()
        watches = self._client._of(self._resource).watches
        if self in watches:
            watches.remove(self)

    async def __anext__(self) -> WatchEvent:
        await asyncio.sleep(0)
        if not self._started:
            self._start()
        while not self._events:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    async def aclose(self) -> None:
        self.end()


def _keep_other_half(resource: Resource, new: Obj, current: Obj, subresource: str) -> None:
    """An update of status changes only status; an update of the object never does."""
    if subresource in ("status", "approval"):
        status = new.get("status")
        metadata = {**new["metadata"]}
        new.clear()
        new.update(copy.deepcopy(current))
        new["metadata"] = {**new["metadata"], "resourceVersion": metadata.get("resourceVersion")}
        if resource == DEPLOYMENTS and "annotations" in metadata:
            # The server lets more through; this is what a controller here makes use of.
            new["metadata"]["annotations"] = metadata["annotations"]
        new["status"] = status
        if status is None:
            del new["status"]
    elif resource.has("status"):
        new.pop("status", None)
        if "status" in current:
            new["status"] = copy.deepcopy(current["status"])


def _may_go(resource: Resource, obj: Obj) -> bool:
    return not (resource == PODS and int(obj["metadata"].get("deletionGracePeriodSeconds") or 0) > 0)


def _patched(resource: Resource, current: Obj, patch: Patch, kind: PatchKind) -> Obj:
    if isinstance(patch, list):
        return json_patch(current, patch)
    if kind == "strategic":
        return strategic_merge(resource.definition, current, patch)
    return merge_patch(current, patch)


def _scale_of(obj: Obj) -> Obj:
    metadata = {part: obj["metadata"].get(part) for part in ("name", "namespace", "uid", "resourceVersion")}
    replicas = (obj.get("spec") or {}).get("replicas", 0)
    status: Obj = {"replicas": (obj.get("status") or {}).get("replicas", 0)}
    if selector := (obj.get("spec") or {}).get("selector"):
        status["selector"] = str(selectors.from_label_selector(selector if "matchLabels" in selector else {}))
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": {"replicas": replicas},
        "status": status,
    }


def _matcher(resource: Resource, space: str, labels: str, fields: str) -> Callable[[Obj], bool]:
    by_label = selectors.parse_label_selector(labels) if labels else None
    by_field = selectors.parse_field_selector(fields) if fields else None

    def matches(obj: Obj) -> bool:
        if space and namespace(obj) != space:
            return False
        if by_label is not None and not by_label.matches(obj["metadata"].get("labels") or {}):
            return False
        return by_field is None or selectors.field_matches(resource, obj, by_field)

    return matches


def _version(obj: Obj) -> str:
    return str(obj["metadata"].get("resourceVersion") or "")


_name = name
_space = namespace
