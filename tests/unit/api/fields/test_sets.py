"""Set algebra on fieldsV1, against sets of paths as Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orca.api.fields import sets
from orca.api.fields.sets import FieldSet, Path
from tests.unit.api.fields.paths import has

ELEMENTS = st.sampled_from(["f:a", "f:b", "f:c", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple)
MANY = st.frozensets(PATHS, max_size=12)


def made(paths: frozenset[Path]) -> FieldSet:
    return sets.of(*sorted(paths))


def paths_of(fields: FieldSet) -> frozenset[Path]:
    return frozenset(sets.members(fields))


@given(MANY)
def test_a_set_holds_its_paths_and_is_written_in_one_way_only(paths: frozenset[Path]) -> None:
    assert paths_of(made(paths)) == paths
    assert sets.of(*sorted(paths, reverse=True)) == made(paths)
    assert sets.is_field_set(made(paths))


@given(MANY, MANY)
def test_algebra_is_that_of_sets_of_paths(left: frozenset[Path], right: frozenset[Path]) -> None:
    a, b = made(left), made(right)
    assert sets.union(a, b) == made(left | right)
    assert sets.difference(a, b) == made(left - right)
    assert sets.intersection(a, b) == made(left & right)
    assert sets.overlaps(a, b) == bool(left & right)
    assert sets.covers(a, b) == (right <= left)
    assert all(has(a, path) == (path in left) for path in left | right)


@given(MANY, MANY)
def test_prefixes(fields: frozenset[Path], roots: frozenset[Path]) -> None:
    below = {path for path in fields if any(path[: len(root)] == root for root in roots)}
    assert sets.exclude(made(fields), made(roots)) == made(fields - below)
    assert sets.keep(made(fields), made(roots)) == made(frozenset(below))


@given(MANY, MANY)
def test_nothing_is_changed_in_place(left: frozenset[Path], right: frozenset[Path]) -> None:
    a, b = made(left), made(right)
    for operation in (sets.union, sets.difference, sets.intersection, sets.exclude, sets.keep):
        operation(a, b)
    assert (a, b) == (made(left), made(right))


def test_what_stays_as_it_was_is_shared() -> None:
    a = sets.of(("f:spec", "f:a"), ("f:spec", "f:b"))
    assert sets.union(a, sets.of(("f:spec", "f:a"))) is a
    assert sets.difference(a, sets.of(("f:spec", "f:c"))) is a
    assert sets.exclude(a, sets.of(("f:status",))) is a


def test_paths_are_shown_as_people_write_them() -> None:
    path = ("f:spec", "f:ports", 'k:{"protocol":"TCP","port":80}', "f:name")
    assert sets.shown(path) == '.spec.ports[port=80,protocol="TCP"].name'
    assert sets.shown(("f:finalizers", 'v:"x"')) == '.finalizers[="x"]'


def test_what_is_no_set() -> None:
    wrong: object
    for wrong in ([], {"f:a": 1}, {"a": {}}, {"k:x": {}}, {'k:["a"]': {}}, {"i:x": {}}):
        assert not sets.is_field_set(wrong), wrong


def test_elements_are_written_in_upstreams_order() -> None:
    ports = ['k:{"port":80}', 'k:{"port":443}', 'k:{"name":"b","port":1}', 'k:{"name":"a","port":2}']
    mixed: FieldSet = {"f:spec": {"f:ports": {key: {} for key in [*ports, "."]}, "f:image": {}}, "f:data": {}}
    assert list(sets.in_order(mixed)) == ["f:data", "f:spec"]
    assert list(sets.in_order(mixed)["f:spec"]) == ["f:image", "f:ports"]
    assert list(sets.in_order(mixed)["f:spec"]["f:ports"]) == [".", ports[3], ports[2], ports[0], ports[1]]
    texts: FieldSet = {key: {} for key in ("v:10", "v:9", 'v:"b"', 'v:"a"', "v:true")}
    assert list(sets.in_order(texts)) == ["v:9", "v:10", 'v:"a"', 'v:"b"', "v:true"]


@given(MANY)
def test_what_is_in_order_is_answered_itself(paths: frozenset[Path]) -> None:
    fields = sets.in_order(made(paths))
    assert fields == made(paths)
    assert sets.in_order(fields) is fields
