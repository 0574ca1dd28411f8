"""How much of the past the cache keeps."""

from __future__ import annotations

import orjson

from orca.store import cache
from orca.store.cache import RING_LEAST, RING_SECONDS, Bucket, Cache
from orca.store.entries import Change, Entry
from orca.store.feed import complete


def written(bucket: Bucket, name: str, revision: int, size: int = 100, now: float = 0.0) -> None:
    raw = b'{"metadata":{"resourceVersion":"%d"},"data":"%b"}' % (revision, b"x" * size)
    bucket.record(name, Entry("", name, revision, None, raw), revision, now)


def test_the_past_is_bounded_in_bytes_and_the_busiest_kind_pays() -> None:
    everything = Cache()
    busy, quiet = everything.bucket("/registry/core/events"), everything.bucket("/registry/core/pods")
    written(quiet, "one", 1)
    written(quiet, "one", 2)
    for revision in range(3, 400):
        written(busy, "same", revision, size=200_000)
        everything.bound()
    assert busy.weight + quiet.weight <= cache.HISTORY_BYTES
    assert busy.changes_since(390) is not None
    assert busy.changes_since(10) is None
    assert busy.past(busy.floor) is not None
    assert quiet.changes_since(1) is not None


def test_the_weight_is_that_of_what_is_remembered() -> None:
    bucket = Bucket("/registry/core/pods", 0)
    for revision in range(1, 1000):
        written(bucket, f"pod-{revision % 7}", revision, now=revision)
    assert len(bucket.ring) <= RING_SECONDS + 1
    assert bucket.weight == sum(change.weight for change in bucket.ring)
    bucket.trim(now=10_000)
    assert len(bucket.ring) == RING_LEAST
    assert bucket.weight == sum(change.weight for change in bucket.ring)
    bucket.forget(1000)
    assert bucket.weight == 0


def test_one_listener_that_fails_keeps_nothing_from_the_others() -> None:
    bucket = Bucket("/registry/core/pods", 0)
    heard: list[int] = []

    def fail(change: Change) -> None:
        raise ValueError("on purpose")

    bucket.followers += [fail, lambda change: heard.append(change.revision)]
    written(bucket, "one", 1)
    written(bucket, "one", 2)
    assert heard == [1, 2]
    assert bucket.changes_since(0) is not None


def test_an_entry_that_readers_hold_is_never_made_another() -> None:
    value = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"}}'
    entry = Entry("", "one", -1, None, value)
    first = complete(entry, value, 5)
    assert first is entry
    assert complete(entry, value, 5) is entry
    second = complete(entry, value, 6)
    assert (entry.revision, second.revision) == (5, 6)
    assert b'"resourceVersion":"5"' in entry.raw


def test_what_was_made_for_a_write_is_kept_only_for_those_who_ask() -> None:
    value = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"}}'
    made = orjson.loads(value)
    expected = {**made, "metadata": {"name": "one", "resourceVersion": "5"}}
    asked, unasked = (complete(Entry("", "one", -1, made, value), value, 5) for _ in range(2))
    assert asked.obj == expected
    for entry in (asked, unasked):
        Change(5, entry, None).cool()
    assert (asked._obj, unasked._obj, unasked._made) == (expected, None, None)
    assert unasked.obj == expected
    assert made["metadata"] == {"name": "one"}
