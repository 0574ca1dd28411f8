"""What documents say twice: in their order, whatever they are made of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Set
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.repeated import MAX_STRICT_ERRORS, duplicate_fields

MANY = 100_000


def test_duplicate_members() -> None:
    raw = b'{"b":0,"a":1,"spec":{"x":[{"y":1,"y":2},[{"z":1,"z":2}]]},"a":2}'
    found = duplicate_fields(raw)
    assert found == ['duplicate field "spec.x[0].y"', 'duplicate field "spec.x[1][0].z"', 'duplicate field "a"']
    assert found.among(['unknown field "spec"', 'unknown field "b"']) == [
        'unknown field "b"',
        'unknown field "spec"',
        'duplicate field "a"',
    ]
    unknown = ['unknown field "a"', 'unknown field "spec.x"']
    assert found.among(unknown) == unknown  # what is in them does not matter either
    assert found.among(['unknown field "spec.x[0].y"', 'unknown field "spe"'])[0] == 'unknown field "spec.x[0].y"'


def test_operations_are_told_by_their_number() -> None:
    found = duplicate_fields(b'[{"op":"add","foo":1},{"path":"/a","path":"/b"}]')
    assert found == ['duplicate field "[1].path"']
    assert found.among(['unknown field "[0].foo"']) == ['unknown field "[0].foo"', 'duplicate field "[1].path"']


def test_what_is_repeated_often_is_told_once_and_not_more_than_a_hundred_things_are() -> None:
    assert duplicate_fields(b'{"a":{"b":1,"b":2,"b":3},"a":{"b":1,"b":2}}') == [
        'duplicate field "a.b"',
        'duplicate field "a"',
    ]
    members = ",".join(f'"n{number}":1' for number in range(200))
    found = duplicate_fields(f"{{{members},{members}}}".encode())
    assert found == [f'duplicate field "n{number}"' for number in range(MAX_STRICT_ERRORS)]
    assert found.among(['unknown field "n0"'])[:2] == ['unknown field "n0"', 'duplicate field "n1"']
    assert len(found.among(['unknown field "n0"'])) == MAX_STRICT_ERRORS


LONG = "x." * 500_000


def _object(*members: str) -> str:
    return f"{{{','.join(members)}}}"


def _each(name: str) -> list[str]:
    return [f'"{name}{number}":1' for number in range(MANY)]


def _paths(name: str) -> list[str]:
    return [f"{name}{number}" for number in range(MANY)]


@pytest.mark.parametrize(
    ("members", "unknown"),
    [
        pytest.param(['"u":' + _object(*_each("r"), *_each("r"))], _paths("u.r"), id="inside"),
        pytest.param([*_each("u"), *_each("u")], _paths("u"), id="beside"),
        pytest.param(['"s":' + _object(*['"t":{"v":1}'] * MANY, *_each("u"))], _paths("s.u"), id="late"),
        pytest.param([f'"{LONG}":1,"{LONG}":2'], [LONG], id="a path of many steps"),
        pytest.param([f'"{LONG}":' + _object(*_each("r"))], [], id="below a long name"),
        pytest.param([f'"{LONG}":' + _object(*['"a":1'] * MANY)], [], id="one below a long name"),
        pytest.param([f'"{LONG}":' + _object(*['"a":{"b":1,"b":1}'] * MANY)], [], id="one further below"),
    ],
)
def test_work_grows_with_the_document_only(members: list[str], unknown: list[str]) -> None:
    """A client that means harm chooses what it looks like; anything quadratic would take minutes, or all memory."""
    raw = _object('"k":1', '"k":2', *members).encode()
    began = time.process_time()
    duplicate_fields(raw).among([f'unknown field "{path}"' for path in unknown])
    assert time.process_time() - began < 60


class Members(list[Any]):
    """An object with all its members."""


NAMES = st.sampled_from(["a", "ab", "b", ".", "", "[0]", "a.b", "a["])
DOCUMENTS = st.recursive(
    st.just("1"),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(NAMES, inner), max_size=6).map(
            lambda members: _object(*(f"{orjson.dumps(name).decode()}:{value}" for name, value in members))
        ),
    ),
    max_leaves=20,
)


@given(DOCUMENTS, st.data())
def test_all_is_read_as_by_comparing_paths(raw: str, data: st.DataObject) -> None:
    document = json.loads(raw, object_pairs_hook=Members)
    paths: list[str] = []
    _walk(document, "", lambda path, _again: paths.append(path), frozenset())
    unknown = data.draw(st.sets(st.sampled_from(sorted(set(paths))), max_size=3)) if paths else set()
    # Those inside of others are never met by who finds out what is unknown.
    unknown = {path for path in unknown if not any(path.startswith((f"{one}.", f"{one}[")) for one in unknown)}
    wanted: dict[str, None] = {}

    def take(path: str, again: bool) -> None:
        if path in unknown:
            wanted[f'unknown field "{path}"'] = None
        elif again:
            wanted[f'duplicate field "{path}"'] = None

    _walk(document, "", take, unknown)
    assert duplicate_fields(raw.encode()).among([f'unknown field "{path}"' for path in unknown]) == list(wanted)


def _walk(value: Any, path: str, see: Callable[[str, bool], None], unknown: Set[str]) -> None:
    if isinstance(value, Members):
        seen = set()
        for name, inner in value:
            see(f"{path}{name}", name in seen)
            seen.add(name)
            if f"{path}{name}" not in unknown:
                _walk(inner, f"{path}{name}.", see, unknown)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _walk(inner, f"{path[:-1]}[{index}].", see, unknown)
