"""All objects, change by change, in the one order that etcd gave them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from orca.store.etcd import Etcd, end_of
from orca.store.outcomes import EtcdCompacted, EtcdError

Obj = dict[str, Any]
PREFIX = b"/registry/"
BEFORE_ANYTHING = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One object before and after (None: there is none). `at` is when this observer heard of it, monotonic."""

    kind: str
    before: Obj | None
    after: Obj | None
    revision: int
    at: float

    @property
    def obj(self) -> Obj:
        found = self.after if self.after is not None else self.before
        assert found is not None
        return found


class Rule(Protocol):
    """Sees the world as it is right after a change; answers what is wrong about it."""

    def __call__(self, world: World, change: Change) -> Iterable[str]: ...


class World:
    """What there is, by the plural of its kind and "namespace/name", and what the rules found wrong."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.kinds: dict[str, dict[str, Obj]] = defaultdict(dict)
        self.owned: dict[str, dict[str, Obj]] = defaultdict(dict)
        """uid of a controller -> its pods by key."""
        self.on_node: dict[str, dict[str, Obj]] = defaultdict(dict)
        """Pods by the node they are bound to."""
        self.rules = list(rules)
        self.broken: list[str] = []
        self.changes = 0
        self.revision = 0
        self.heard: list[Callable[[Change], None]] = []

    def get(self, kind: str, key: str) -> Obj | None:
        return self.kinds[kind].get(key)

    def all(self, kind: str) -> list[Obj]:
        return list(self.kinds[kind].values())

    def pods_of(self, uid: str) -> list[Obj]:
        return list(self.owned[uid].values())

    def by_uid(self, kind: str, uid: str) -> Obj | None:
        return next((one for one in self.kinds[kind].values() if one["metadata"]["uid"] == uid), None)

    def take(self, key: bytes, value: bytes | None, revision: int, at: float) -> None:
        """One event of etcd's."""
        parts = key.decode().split("/", 4)  # "", registry, group, plural, rest
        if len(parts) < 5 or parts[2] == "orca" or parts[2].startswith("."):
            return
        self.put(parts[3], parts[4], None if value is None else orjson.loads(value), revision, at)

    def put(self, kind: str, key: str, after: Obj | None, revision: int, at: float) -> None:
        """Takes a change in and judges it."""
        before = self.kinds[kind].get(key)
        if before is None and after is None:
            return
        if after is None:
            del self.kinds[kind][key]
        else:
            self.kinds[kind][key] = after
        if kind == "pods":
            self._index(key, before, after)
        self.revision = revision
        self.changes += 1
        change = Change(kind, before, after, revision, at)
        for rule in self.rules:
            self.broken += [f"revision {revision}: {kind} {key}: {what}" for what in rule(self, change)]
        for listener in self.heard:
            listener(change)

    def _index(self, key: str, before: Obj | None, after: Obj | None) -> None:
        for pod, add in ((before, False), (after, True)):
            if pod is None:
                continue
            for index, value in ((self.owned, controller_of(pod)), (self.on_node, pod["spec"].get("nodeName"))):
                if value and add:
                    index[value][key] = pod
                elif value:
                    index[value].pop(key, None)

    async def follow(self, endpoint: str) -> None:
        """Until cancelled, from the first revision of all, whatever happens to etcd meanwhile."""
        etcd = Etcd(endpoint)
        etcd.open()
        since = BEFORE_ANYTHING
        try:
            while True:
                try:
                    async for batch in etcd.watch(PREFIX, end_of(PREFIX), since):
                        at = time.monotonic()
                        for seen in batch:
                            self.take(seen.key, seen.value, seen.revision, at)
                            since = seen.revision + 1
                except EtcdCompacted:
                    raise  # some of the history was missed
                except EtcdError:
                    await asyncio.sleep(0.1)
        finally:
            await etcd.close()


def controller_of(obj: Obj) -> str:
    """The uid of its controller, or ""."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((one["uid"] for one in references if one.get("controller")), "")


def owner_of(obj: Obj, kind: str) -> str:
    """The uid of its controller when that is of a kind, else ""."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((one["uid"] for one in references if one.get("controller") and one["kind"] == kind), "")


def phase(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_going(obj: Obj) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_over(pod: Obj) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    return not is_going(pod) and not is_over(pod)


def is_ready(pod: Obj) -> bool:
    found = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found)


def key_of(obj: Obj) -> str:
    metadata = obj["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])
