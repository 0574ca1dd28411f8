"""Encodings cut where they repeat: joined they are what they were."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.store.dividing import Shelf
from orca.store.entries import Entry

SETS = {"f:spec": {f'k:{{"name":"n{number}"}}': {".": {}, "f:value": {}} for number in range(20)}}


def encoded(name: str, *managers: str, **fields: object) -> bytes:
    owners = [{"manager": one, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": SETS} for one in managers]
    return orjson.dumps({"metadata": {"name": name, "managedFields": owners, "uid": name}, **fields})


@pytest.mark.parametrize("managers", [("one",), ("one", "two"), ("one", "two", "three")])
def test_what_repeats_is_the_same_object(managers: tuple[str, ...]) -> None:
    shelf = Shelf()
    first, second = encoded("a", *managers), encoded("b", *managers)
    mine, other = shelf.divide(first), shelf.divide(second)
    assert (b"".join(mine), b"".join(other)) == (first, second)
    shared = [part for part in mine if any(part is one for one in other)]
    assert len(shared) == len(managers)
    assert sum(map(len, shared)) > len(managers) * 500


def test_what_does_not_repeat_stays_whole() -> None:
    shelf = Shelf()
    for raw in (b"", b"{}", orjson.dumps({"data": {"a": '"fieldsV1":{' * 100}}), b'{"fieldsV1":{' + b"x" * 1000):
        assert shelf.divide(raw) == (raw,)


@given(st.lists(st.sampled_from([b'"fieldsV1":{', b"}]", b"},{", b"x" * 300, b"y" * 20_000]), max_size=12))
def test_joined_it_is_always_the_same(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    shelf = Shelf(parts=2)
    for _ in range(3):
        assert b"".join(shelf.divide(raw)) == raw


def test_an_entry_tells_its_bytes_and_their_number() -> None:
    raw = encoded("a", "one", "two")
    entry = Entry("", "a", 5, None, raw)
    assert len(entry.parts) == 5
    assert (entry.raw, entry.size) == (raw, len(raw))
    other = encoded("b", "one")
    entry.raw = other
    assert (entry.raw, entry.size) == (other, len(other))
