"""Stored objects as bytes: what is written to etcd, what is answered to clients, what watchers are sent.

Values in etcd are compact JSON without resourceVersion (the revision is only known once written) and begin with
apiVersion, kind and metadata, so that the resourceVersion can be put in place by splicing, without parsing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from sys import intern
from typing import Any

import orjson

from orca.api.objects import Obj
from orca.store.dividing import SHELF
from orca.store.faults import Unreadable
from orca.store.sharing import POOL

_FIRST = ("apiVersion", "kind", "metadata")
_METADATA = b'"metadata":{'
_VERSION = b'"metadata":{"resourceVersion":"'


def encode(obj: Obj) -> bytes:
    """The value stored for `obj`: without resourceVersion."""
    metadata = obj["metadata"]
    if "resourceVersion" not in metadata and tuple(islice(obj, 3)) == _FIRST:
        return orjson.dumps(obj)
    if "resourceVersion" in metadata:
        metadata = {field: value for field, value in metadata.items() if field != "resourceVersion"}
    head = {"apiVersion": obj.get("apiVersion", ""), "kind": obj.get("kind", ""), "metadata": metadata}
    return orjson.dumps(head | {field: value for field, value in obj.items() if field not in head})


def place(value: bytes, revision: int) -> bytes:
    """A stored value as clients see it, with resourceVersion in place. Raises Unreadable for what is no object."""
    # A quote inside apiVersion or kind would be escaped, so the first match is the object's own metadata.
    found = value.find(_METADATA)
    if found < 0:
        raise Unreadable(value)
    at = found + len(_METADATA)
    return b'%b"resourceVersion":"%d",%b' % (value[:at], revision, value[at:])


def replace(raw: bytes, revision: int) -> bytes:
    """`raw` with another resourceVersion; for the last state of a deleted object."""
    at = raw.index(_VERSION) + len(_VERSION)
    return b"%b%d%b" % (raw[:at], revision, raw[raw.index(b'"', at) :])


CHANGE_BYTES = 400
"""A remembered change without any object's bytes."""


class Entry:
    """One object at one revision. `raw` is its JSON with resourceVersion, kept as `parts` and `size` bytes long; `obj`
    (frozen) is parsed when needed.

    One that is about to be written has revision -1 and the bytes that are stored; `complete` makes it readable.
    """

    __slots__ = ("_made", "_obj", "name", "namespace", "parts", "revision", "size", "views")

    def __init__(self, namespace: str, name: str, revision: int, obj: Obj | None, raw: bytes) -> None:
        self.namespace = intern(namespace)
        self.name = name
        self.revision = revision
        self.size = len(raw)
        if revision >= 0:
            self.parts = SHELF.divide(raw)
            self._obj, self._made = obj, None
        else:
            # Parts of what was made are looked for in others when it is first asked for, as for many nobody does.
            self.parts = (raw,)
            self._obj, self._made = None, obj
        self.views: tuple[Any, ...] = ()
        """What readers made of it to serve it in other versions; theirs to keep, gone with the entry."""

    def __repr__(self) -> str:
        return f"<Entry {self.key} at {self.revision}>"

    @property
    def raw(self) -> bytes:
        parts = self.parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def obj(self) -> Obj:
        found = self._obj
        if found is None:
            made = self._made
            found = POOL.share(orjson.loads(self.raw)) if made is None else POOL.share(made, made=True)
            self._obj, self._made = found, None
        return found

    @property
    def key(self) -> str:
        """ "namespace/name" or "name"."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def complete(self, revision: int, value: bytes) -> None:
        """What was about to be written, is: `value`, at `revision`. Only before anyone has seen the entry."""
        raw = place(value, revision)
        self.revision = revision
        self.parts = SHELF.divide(raw)
        self.size = len(raw)
        made = self._made
        if made is not None:
            self._made = {**made, "metadata": {**made["metadata"], "resourceVersion": str(revision)}}

    def forget_made(self) -> None:
        """Drops what nobody has asked for since it was written: parsed, an object takes several times the room of its
        bytes."""
        self._made = None

    def forget_parsed(self) -> None:
        """For states that are over."""
        self._obj = self._made = None

    def at(self, revision: int) -> Entry:
        """The same state under another revision, as a deletion shows it."""
        obj = self._obj
        if obj is not None:
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        return Entry(self.namespace, self.name, revision, obj, replace(self.raw, revision))


class Change:
    """One step in the life of an object: `entry` is the new state (None: deleted), `previous` the one before.

    What watchers are sent is made once per type and shared, however many of them there are. `last`: of a deletion, what
    they are shown instead of the previous state, under its revision.
    """

    __slots__ = ("_events", "at", "entry", "last", "previous", "revision")

    def __init__(
        self, revision: int, entry: Entry | None, previous: Entry | None, at: float = 0.0, last: Entry | None = None
    ) -> None:
        self.revision = revision
        self.at = at  # monotonic seconds at which we heard of it
        self.entry = entry
        self.previous = previous
        self.last = last
        self._events: dict[str, Event] | None = None

    @property
    def weight(self) -> int:
        """About how many bytes stay in memory only because this is remembered."""
        weight = CHANGE_BYTES
        if self.previous is not None:
            weight += self.previous.size
        return weight if self.last is None else weight + self.last.size

    def __repr__(self) -> str:
        return f"<Change {self.revision}: {self.previous} -> {self.entry}>"

    def cool(self) -> None:
        """Drops what can be made again: most watchers have long had this."""
        self._events = None
        if self.entry is not None:
            self.entry.forget_made()
        for one in (self.previous, self.last):
            if one is not None:
                one.forget_parsed()

    def event(self, kind: str) -> Event:
        """The event of type `kind` for this change."""
        if self._events is None:
            self._events = {}
        found = self._events.get(kind)
        if found is None:
            shown = self.entry
            if kind == "DELETED":
                # Upstream shows the last state that matched, under the revision of the change.
                assert self.previous is not None
                shown = self.last or self.previous.at(self.revision)
            assert shown is not None
            found = self._events[kind] = Event(kind, shown)
        return found


class Event:
    """What a watcher is sent. `line` is the encoded JSON line, made once and shared by all watchers."""

    __slots__ = ("_line", "entry", "type")

    def __init__(self, kind: str, entry: Entry) -> None:
        self.type = kind
        self.entry = entry
        self._line: bytes | None = None

    def __repr__(self) -> str:
        return f"<Event {self.type} {self.entry}>"

    @property
    def line(self) -> bytes:
        found = self._line
        if found is None:
            found = self._line = b'{"type":"%b","object":%b}\n' % (self.type.encode(), self.entry.raw)
        return found


def bookmark(api_version: str, kind: str, revision: int, *, initial_end: bool = False) -> Event:
    """A BOOKMARK: everything up to `revision` has been sent. `initial_end` marks the end of the initial events."""
    metadata: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    obj = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
    return Event("BOOKMARK", Entry("", "", revision, obj, orjson.dumps(obj)))


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a consistent list at `revision`, in key order. `continue_` is "" on the last page; `remaining` is None
    when not counted (last page, or selectors in use)."""

    entries: list[Entry]
    revision: int
    continue_: str = ""
    remaining: int | None = None
