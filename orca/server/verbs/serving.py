"""From stored objects to objects in the version a row serves.

What was made of an entry is kept with it (``Entry.views``), so that an object is converted once and not for each
reader. Rows whose versions have a webhook wait for it, for all objects of an answer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

import orjson

from orca.api import strategy
from orca.api.conversion import convert
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.strategy import Versions
from orca.server.fairness.portions import portions
from orca.server.fairness.turns import Lane
from orca.store import Entry, Event, Watch

Predicate = Callable[[Obj], bool]


class View(Entry):
    """An entry as another version, or with defaults that were not stored. ``source`` is the stored one."""

    __slots__ = ("source",)

    def __init__(self, source: Entry, obj: Obj) -> None:
        super().__init__(source.namespace, source.name, source.revision, obj, orjson.dumps(obj))
        self.source = source

    def outdated(self, resource: Resource) -> bool:
        """Whether storing the object again, unchanged, would store something else."""
        if resource.api_version == resource.stored_as:
            return True
        return not self.source.raw.startswith(b'{"apiVersion":%b,' % orjson.dumps(resource.stored_as))


def is_plain(resource: Resource) -> bool:
    """Whether what is stored is what the row serves."""
    return not resource.custom and resource.api_version == resource.stored_as


def ready(resource: Resource, entry: Entry) -> Entry | None:
    """An entry as the row serves it; None when a webhook has to be asked."""
    if not resource.custom:
        if resource.api_version == resource.stored_as:
            return entry
        return _kept(resource, entry) or _keep(resource, entry, convert(entry.obj, resource.api_version))
    versions = strategy.of(resource).versions
    if versions is None:
        return entry
    found = _kept(versions, entry)
    if found is not None:
        return found
    if versions.hook is not None and not versions.is_mine(entry.raw):
        return None
    # Parsed here and forgotten: a list of many objects should not leave them all parsed in the cache.
    stored: Obj = orjson.loads(entry.raw)
    return _keep(versions, entry, versions.settle(stored), stored)


def written(resource: Resource, entry: Entry) -> None:
    """Note that an entry was just stored in the version and shape the row serves."""
    versions = strategy.of(resource).versions if resource.custom else None
    if versions is not None and versions.is_mine(entry.raw) and _kept(versions, entry) is None:
        entry.views = (*entry.views, (versions, None))


async def serve(resource: Resource, entry: Entry) -> Entry:
    """An entry as the row serves it. Raises ApiError 500 when its webhook fails."""
    return ready(resource, entry) or (await serve_all(resource, [entry]))[0]


async def serve_all(resource: Resource, entries: Sequence[Entry], lane: Lane | None = None) -> list[Entry]:
    """Entries as the row serves them, with one question to a webhook. In turns: what was never served before may take
    long."""
    if is_plain(resource):
        return list(entries)
    owner = strategy.of(resource).versions if resource.custom else resource
    found: list[Entry | None] = []
    for entry in entries:
        views = entry.views
        found.append((views[0][1] or entry) if views and views[0][0] is owner else None)
    await _fill(resource, entries, found, lane)
    while missing := [index for index, entry in enumerate(found) if entry is None]:
        versions = strategy.of(resource).versions
        if versions is None or versions.hook is None:  # there was one, until others had their turn
            await _fill(resource, entries, found, lane)
            continue
        stored = [versions.read(entries[index].obj) for index in missing]
        made = await versions.hook(stored, resource.api_version)
        for index, obj in zip(missing, made, strict=True):
            found[index] = _keep(versions, entries[index], versions.converted(obj))
    return [entry for entry in found if entry is not None]


async def _fill(resource: Resource, entries: Sequence[Entry], found: list[Entry | None], lane: Lane | None) -> None:
    """What is missing and can be made without a webhook."""
    missing = [index for index, entry in enumerate(found) if entry is None]
    places = iter(missing)
    for number, some in enumerate(portions([entries[index] for index in missing])):
        if lane is not None:
            await lane.turn()
        elif number:
            await asyncio.sleep(0)
        for entry in some:
            found[next(places)] = ready(resource, entry)


async def to_stored(resource: Resource, obj: Obj) -> Obj:
    """An object of the served version as it is stored. Raises ApiError 500 when its webhook fails."""
    if resource.api_version == resource.stored_as:
        return obj
    versions = strategy.of(resource).versions if resource.custom else None
    if versions is not None and versions.hook is not None:
        made = (await versions.hook([obj], resource.stored_as))[0]
    else:
        made = convert(obj, resource.stored_as)
    return made if versions is None else versions.to_stored(made, resource.stored_as)


def _kept(owner: Versions | Resource, entry: Entry) -> Entry | None:
    for known, view in entry.views:
        if known is owner:
            return view or entry
    return None


def _keep(owner: Versions | Resource, entry: Entry, obj: Obj, stored: Obj | None = None) -> Entry:
    same = obj is stored
    view = None if same else View(entry, obj)
    # What an older state of the definition made of it is of no use any more.
    others = tuple(held for held in entry.views if held[0].api_version != owner.api_version)
    entry.views = (*others, (owner, view))
    return view or entry


class ServedWatch:
    """A watch whose events carry objects as the row serves them.

    With ``predicate`` it selects after conversion; the inner watch then must not.
    """

    def __init__(self, inner: Watch, resource: Resource, predicate: Predicate | None = None) -> None:
        self._inner = inner
        self._resource = resource
        self._predicate = predicate
        self._selected: dict[str, Entry] = {}
        """The last state that was selected of each object, by key: the one that is in the cache, while it is."""
        self._taken: list[Event] = []
        """Taken from the inner watch and not yet handed on: being interrupted must not lose them."""

    def __repr__(self) -> str:
        return f"<ServedWatch of {self._inner}>"

    async def seed(self, entries: Sequence[Entry]) -> None:
        """Tell which objects the watcher knows already."""
        assert self._predicate is not None
        for entry in await serve_all(self._resource, entries):
            if self._predicate(entry.obj):
                self._selected[entry.key] = entry

    async def batch(self) -> list[Event]:
        """All pending events, at least one; [] once the watch has ended. ApiError 410, 500."""
        while True:
            self._taken = self._taken or await self._inner.batch()
            if not self._taken:
                return []
            served = await self._served(self._taken)
            self._taken = []
            if served:
                return served

    @property
    def bookmarks(self) -> bool:
        """Whether the watcher wants bookmarks."""
        return self._inner.bookmarks

    def mark(self) -> None:
        """Add a bookmark, as ``Watch.mark``."""
        self._inner.mark()

    async def _served(self, events: list[Event]) -> list[Event]:
        shown = [event for event in events if event.type != "BOOKMARK"]
        entries = await serve_all(self._resource, [event.entry for event in shown])
        views = {id(event): entry for event, entry in zip(shown, entries, strict=True)}
        found: list[Event] = []
        for event in events:
            entry = views.get(id(event))
            if entry is None:
                found.append(event)
                continue
            kind, entry = (event.type, entry) if self._predicate is None else self._selection(event.type, entry)
            if kind == event.type and entry is event.entry:
                found.append(event)
            elif kind:
                found.append(Event(kind, entry))
        return found

    def _selection(self, kind: str, entry: Entry) -> tuple[str, Entry]:
        """What an event means to the selector ("" for nothing), and the state that shows it."""
        assert self._predicate is not None
        was = self._selected.pop(entry.key, None)
        if kind != "DELETED" and self._predicate(entry.obj):
            self._selected[entry.key] = entry
            return "ADDED" if was is None else "MODIFIED", entry
        if was is None:
            return "", entry
        # As upstream, what is not selected any more is shown as it last was, under the revision of the change.
        return "DELETED", entry if kind == "DELETED" else as_of(was, entry.revision)

    def close(self) -> None:
        """End it; what is pending can still be read."""
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


def as_of(entry: Entry, revision: int) -> Entry:
    """The state of an entry, however it was made, under another revision."""
    metadata = {**entry.obj["metadata"], "resourceVersion": str(revision)}
    obj = {**entry.obj, "metadata": metadata}
    return Entry(entry.namespace, entry.name, revision, obj, orjson.dumps(obj))


class Expired:
    """A watch from a resourceVersion that is forgotten, or not there yet: as upstream, an ERROR event tells, not the
    HTTP status."""

    bookmarks = False

    def __init__(self, error: ApiError) -> None:
        self._error = error

    def mark(self) -> None:
        """Nothing was seen."""

    async def batch(self) -> list[Event]:
        """Raises the ApiError."""
        raise self._error

    def close(self) -> None:
        """Nothing was opened."""

    async def aclose(self) -> None:
        """Nothing was opened."""


AnyWatch: TypeAlias = Watch | ServedWatch | Expired
