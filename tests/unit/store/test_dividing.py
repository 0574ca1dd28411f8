"""Encodings cut where they repeat: joined they are what they were."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.store.dividing import Shelf
from orca.store.entries import Entry
from tests.support.growth import grows_with_its_size

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


def pod(name: str, node: str = "", token: str = "") -> bytes:
    """A pod as it is stored: of its spec, what it has from its template comes first."""
    env = [{"name": f"SETTING_{number}", "value": "some value of usual length"} for number in range(8)]
    spec: dict[str, object] = {"containers": [{"name": "main", "env": env}]}
    if token:
        sources = [{"configMap": {"name": f"part-{number}", "items": [{"key": "a"}]}} for number in range(8)]
        spec["volumes"] = [{"name": f"kube-api-access-{token}", "projected": {"sources": sources}}]
    if node:
        spec["nodeName"] = node
    status = {"phase": "Running", "podIP": name, "conditions": [{"type": "Ready", "message": name * 100}]}
    return encoded(name, "one", spec=spec, status=status)


@pytest.mark.parametrize(("node", "token"), [("", ""), ("node-", ""), ("", "abcd"), ("node-", "abcd")])
def test_pods_of_one_template_share_their_spec(node: str, token: str) -> None:
    """But for the node and the random name of the volume with the token."""
    shelf = Shelf()
    first, second = (pod(one, node and node + one, token and token + one) for one in ("a", "b"))
    mine, other = shelf.divide(first), shelf.divide(second)
    assert (b"".join(mine), b"".join(other)) == (first, second)
    own = [part for part in mine if not any(part is one for one in other)]
    spec = json.loads(first)["spec"]
    assert sum(map(len, own)) < len(first) - len(orjson.dumps([SETS, spec])) + 100


def test_what_is_after_the_spec_is_no_part_of_it() -> None:
    """A status is like no other, wherever its object says it."""
    shelf = Shelf()
    for text in ("a", "b"):
        raw = orjson.dumps({"metadata": {"name": text}, "status": {"podIP": text}, "spec": {"args": ["x" * 300]}})
        assert b"".join(shelf.divide(raw)) == raw
    assert shelf.divide(raw)[1] is shelf.divide(raw.replace(b'"b"', b'"c"'))[1]


def test_specs_that_are_like_no_other_leave_the_parts_of_managers() -> None:
    shelf = Shelf(parts=2, specs=2)
    owned = shelf.divide(encoded("a", "one"))[1]
    for number in range(20):
        shelf.divide(orjson.dumps({"metadata": {}, "spec": {"args": [str(number) * 300]}}))
    assert shelf.divide(encoded("b", "one"))[1] is owned


def test_what_does_not_repeat_stays_whole() -> None:
    shelf = Shelf()
    for raw in (b"", b"{}", orjson.dumps({"data": {"a": '"fieldsV1":{' * 100}}), b'{"fieldsV1":{' + b"x" * 1000):
        assert shelf.divide(raw) == (raw,)


PIECES = (b'"fieldsV1":{', b"}]", b"},{", b',"spec":{', b',"status":{', b',"nodeName":"', b"kube-api-access-abcde")


@given(st.lists(st.sampled_from([*PIECES, b"x" * 300, b"y" * 20_000]), max_size=12))
def test_joined_it_is_always_the_same(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    shelf = Shelf(parts=2, specs=2)
    for _ in range(3):
        assert b"".join(shelf.divide(raw)) == raw


def test_an_entry_tells_its_bytes_and_their_number() -> None:
    raw = encoded("a", "one", "two")
    entry = Entry("", "a", 5, None, raw)
    assert len(entry.parts) == 5
    assert (entry.raw, entry.size) == (raw, len(raw))
    written = Entry("", "b", -1, None, encoded("b", "one"))
    written.complete(6, encoded("b", "one"))
    assert written.raw == encoded("b", "one").replace(b'"metadata":{', b'"metadata":{"resourceVersion":"6",')
    assert (len(written.parts), written.size) == (3, len(written.raw))


def test_many_managers_take_no_longer_each() -> None:
    """Of 20,000 entries each once looked for the end of the list: several seconds."""

    def divide(size: int) -> None:
        owners = [{"manager": f"m{number}", "fieldsV1": {"f:a": {}}} for number in range(size)]
        raw = orjson.dumps({"metadata": {"managedFields": owners}})
        assert b"".join(Shelf().divide(raw)) == raw

    assert grows_with_its_size(divide, 4_000)
