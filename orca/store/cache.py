"""The watch cache: what is, and what happened lately, per storage prefix. Pure memory, no I/O, no clock of its own.

Invariants of a bucket, all kept by `Bucket.record`:
- `order` holds exactly the keys of `entries`, sorted, and `ordered` the entries in that order;
- every change with `floor` < revision <= now is in `ring`, so any state since `floor` can be rebuilt by undoing;
- every index that has been asked for once holds exactly the current entries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from orca.api.objects import Obj
from orca.store.entries import Change, Entry

if TYPE_CHECKING:
    from orca.store.watch import Watch

log = structlog.get_logger()

Predicate = Callable[[Obj], bool]
Hint = tuple[str, str]
"""(name of an indexer, value): narrows a list or watch; the predicate still decides."""

_ALL: Hint = ("", "")
"""Where watches are found that want everything."""
RING_LEAST = 256
RING_MOST = 10_000
RING_SECONDS = 300.0
HISTORY_BYTES = 32 << 20
"""What all rings together may hold; beyond it the heaviest one gives up its older half."""
WARM = 64
"""Changes that keep what was parsed and encoded for them; older ones keep only the stored bytes."""


def _node_name(obj: Obj) -> tuple[str, ...]:
    return ((obj.get("spec") or {}).get("nodeName") or "",)


def _owners(obj: Obj) -> tuple[str, ...]:
    return tuple(owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ())


def _service(obj: Obj) -> tuple[str, ...]:
    return ((obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name") or "",)


INDEXERS: dict[str, Callable[[Obj], tuple[str, ...]]] = {
    "spec.nodeName": _node_name,
    "owner": _owners,
    "service": _service,  # of an EndpointSlice
}


def _is_in(namespace: str, entry: Entry) -> bool:
    return not namespace or entry.namespace == namespace


class Bucket:
    """All objects under one storage prefix, e.g. /registry/core/pods."""

    def __init__(self, storage: str, floor: int) -> None:
        self.storage = storage
        self.entries: dict[str, Entry] = {}
        self.order: list[str] = []
        self.ordered: list[Entry] = []
        self.floor = floor
        self.ring: deque[Change] = deque()
        self.faults: dict[str, str] = {}  # key -> why what is stored there cannot be read
        self.received = 0  # changes, ever
        self.weight = 0  # bytes that only the ring keeps alive
        self._warm: deque[Change] = deque()
        self._indexes: dict[str, dict[str, dict[str, Entry]]] = {}
        self.followers: list[Callable[[Change], None]] = []
        self._watches: dict[Hint, set[Watch]] = {}
        self._hints: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Bucket {self.storage}: {len(self.entries)}, ring of {len(self.ring)}>"

    # --- changing ----------------------------------------------------------------------------------------------------

    def load(self, entries: Iterable[Entry]) -> None:
        """The first content; `entries` in any order."""
        self.entries = {entry.key: entry for entry in entries}
        self.order = sorted(self.entries)
        self.ordered = [self.entries[key] for key in self.order]

    def record(
        self, key: str, entry: Entry | None, revision: int, now: float, last: Entry | None = None
    ) -> Change | None:
        """Takes one step and tells the watches. `entry` None deletes; `last` is what they are shown of it then, if not
        its previous state. None when nothing was there to delete."""
        self.received += 1
        previous = self.entries.get(key)
        if self.faults:
            self.faults.pop(key, None)
        if entry is None:
            if previous is None:
                return None
            self._drop(key)
        else:
            self._put(key, entry, previous is None)
        self._reindex(key, previous, entry)
        change = Change(revision, entry, previous, now, last)
        self.ring.append(change)
        self.weight += change.weight
        self._warm.append(change)
        self.trim(now)
        for follower in self.followers:
            try:
                follower(change)
            except Exception:
                # One that fails must not keep what happened from all the others.
                log.exception("a listener failed", storage=self.storage, key=key, revision=revision)
        if self._watches:
            self._tell(key, change)
        return change

    def spoil(self, key: str, why: str, revision: int) -> None:
        """What is stored at `key` since `revision` cannot be read. Watches end: they could not tell what happened, and
        whoever lists anew is told why not."""
        self.faults[key] = why
        previous = self.entries.get(key)
        if previous is not None:
            self._drop(key)
            self._reindex(key, previous, None)
        self._break_off(revision)

    def mend(self, entry: Entry, revision: int) -> None:
        """A stored object has become readable; `revision` is that of the cache."""
        del self.faults[entry.key]
        self._put(entry.key, entry, True)
        self._reindex(entry.key, None, entry)
        self._break_off(revision)

    def _put(self, key: str, entry: Entry, new: bool) -> None:
        at = bisect_left(self.order, key)
        if new:
            self.order.insert(at, key)
            self.ordered.insert(at, entry)
        else:
            self.ordered[at] = entry
        self.entries[key] = entry

    def _drop(self, key: str) -> None:
        at = bisect_left(self.order, key)
        del self.entries[key], self.order[at], self.ordered[at]

    def _break_off(self, revision: int) -> None:
        self.forget(revision)
        for watch in self.watches():
            watch.close()

    def fault_in(self, namespace: str) -> str:
        """The first unreadable key of a namespace (all for ""), "" when there is none."""
        start = f"{namespace}/" if namespace else ""
        return min((key for key in self.faults if key.startswith(start)), default="")

    def remember(self, change: Change) -> None:
        """Adds history from before the load; called in order of revisions, before any `record`."""
        self.ring.append(change)
        self.weight += change.weight

    def forget(self, revision: int) -> None:
        """Gives up everything that happened up to `revision`."""
        self.ring.clear()
        self.weight = 0
        self._warm.clear()
        self.floor = max(self.floor, revision)

    def trim(self, now: float) -> None:
        """Forgets what is too old or too much, and drops what can be made again of all but the newest."""
        ring = self.ring
        while len(ring) > RING_LEAST and (len(ring) > RING_MOST or now - ring[0].at > RING_SECONDS):
            self._forget_oldest()
        while len(self._warm) > WARM:
            self._warm.popleft().cool()

    def lighten(self) -> None:
        """Gives up the older half of the ring, by weight."""
        target = self.weight // 2
        while self.ring and self.weight > target:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self.ring.popleft()
        self.floor = oldest.revision
        self.weight -= oldest.weight

    def _reindex(self, key: str, previous: Entry | None, entry: Entry | None) -> None:
        for name, index in self._indexes.items():
            indexer = INDEXERS[name]
            if previous is not None:
                for value in indexer(previous.obj):
                    held = index.get(value)
                    if held is not None:
                        held.pop(key, None)
                        if not held:
                            del index[value]
            if entry is not None:
                for value in indexer(entry.obj):
                    index.setdefault(value, {})[key] = entry

    # --- reading -----------------------------------------------------------------------------------------------------

    def select(
        self, namespace: str = "", start: str = "", hint: Hint | None = None, most: int | None = None
    ) -> Sequence[Entry]:
        """Current entries in key order, from key `start` on, of which there may be no more than `most`."""
        if hint is not None:
            found = self._index(hint[0]).get(hint[1], {})
            held = [found[key] for key in sorted(found) if key >= start and _is_in(namespace, found[key])]
            return held[:most]
        first, last = self._range(namespace, start)
        return self.ordered[first : last if most is None else min(last, first + most)]

    def count(self, namespace: str = "", start: str = "") -> int:
        """How many current entries there are from key `start` on, of all namespaces for ""."""
        first, last = self._range(namespace, start)
        return max(0, last - first)

    def _range(self, namespace: str, start: str) -> tuple[int, int]:
        first, last = 0, len(self.order)
        if namespace:
            # "0" is the character after "/".
            first, last = bisect_left(self.order, f"{namespace}/"), bisect_left(self.order, f"{namespace}0")
        return max(first, bisect_left(self.order, start)) if start else first, last

    def past(self, revision: int) -> dict[str, Entry | None] | None:
        """What differs from now in the state at `revision`: key -> entry then (None: was not there).
        None when that is older than what we remember."""
        if revision < self.floor:
            return None
        differs: dict[str, Entry | None] = {}
        for change in reversed(self.ring):
            if change.revision <= revision:
                break
            shown = change.entry or change.previous
            assert shown is not None
            differs[shown.key] = change.previous
        return differs

    def _index(self, name: str) -> dict[str, dict[str, Entry]]:
        index = self._indexes.get(name)
        if index is None:
            index = self._indexes[name] = {}
            indexer = INDEXERS[name]
            for key, entry in self.entries.items():
                for value in indexer(entry.obj):
                    index.setdefault(value, {})[key] = entry
        return index

    # --- watches -----------------------------------------------------------------------------------------------------

    def changes_since(self, revision: int) -> list[Change] | None:
        """Changes after `revision`, oldest first; None when some are forgotten."""
        if revision < self.floor:
            return None
        found: list[Change] = []
        for change in reversed(self.ring):
            if change.revision <= revision:
                break
            found.append(change)
        found.reverse()
        return found

    def attach(self, watch: Watch) -> None:
        self._watches.setdefault(watch.channel, set()).add(watch)
        if watch.channel[0] in INDEXERS:
            self._hints[watch.channel[0]] = self._hints.get(watch.channel[0], 0) + 1

    def detach(self, watch: Watch) -> None:
        group = self._watches.get(watch.channel)
        if group is None or watch not in group:
            return
        group.discard(watch)
        if not group:
            del self._watches[watch.channel]
        if watch.channel[0] in INDEXERS:
            self._hints[watch.channel[0]] -= 1
            if not self._hints[watch.channel[0]]:
                del self._hints[watch.channel[0]]

    def watches(self) -> list[Watch]:
        return [watch for group in self._watches.values() for watch in group]

    def _tell(self, key: str, change: Change) -> None:
        shown = change.entry or change.previous
        assert shown is not None
        channels: Iterable[Hint] = (_ALL, ("namespace", shown.namespace), ("name", key))
        if self._hints:
            channels = {*channels}
            for name in self._hints:
                for state in (change.entry, change.previous):
                    if state is not None:
                        channels.update((name, value) for value in INDEXERS[name](state.obj))
        for channel in channels:
            group = self._watches.get(channel)
            if group:
                # A watch that overflows detaches itself.
                for watch in tuple(group):
                    try:
                        watch.offer(change)
                    except Exception:
                        # Its selector cannot judge the object. Ended, it may come again; the others must hear of it.
                        log.exception("a watch failed", watch=repr(watch), revision=change.revision)
                        watch.close()


class _Buckets(dict[str, Bucket]):
    """By storage prefix; whoever asks for one gets it. Every write asks a dozen times."""

    def __init__(self) -> None:
        super().__init__()
        self.floor = 0

    def __missing__(self, storage: str) -> Bucket:
        made = self[storage] = Bucket(storage, self.floor)
        return made


class Cache:
    """All buckets, and how far they have come (`revision`)."""

    def __init__(self) -> None:
        self.buckets = _Buckets()
        """`bucket`, without a call."""
        self.revision = 0

    @property
    def floor(self) -> int:
        """From which revision on a bucket that is new knows what happened."""
        return self.buckets.floor

    @floor.setter
    def floor(self, revision: int) -> None:
        self.buckets.floor = revision

    def bound(self) -> None:
        """Keeps the history of all buckets together within `HISTORY_BYTES`; who changes most forgets first."""
        while sum(bucket.weight for bucket in self.buckets.values()) > HISTORY_BYTES:
            max(self.buckets.values(), key=lambda bucket: bucket.weight).lighten()

    def bucket(self, storage: str) -> Bucket:
        """The bucket of a storage prefix, empty when nothing was ever stored there."""
        return self.buckets[storage]
