"""What holds for apply whatever is applied: properties over random configurations of pods."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api import fields
from orca.api.builtin import PODS
from orca.api.fields import sets
from orca.api.fields.comparing import compare
from orca.api.fields.merging import merge, owned
from orca.api.fields.shapes import added
from orca.api.fields.types import root
from orca.api.objects import Obj
from tests.unit.api.fields.examples import EARLY, LATE, at, owners, writer
from tests.unit.api.fields.paths import below

WORDS = st.sampled_from(["a", "b", "c"])
STRINGS = st.dictionaries(WORDS, WORDS, max_size=3)


def containers(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Obj]]:
    environment = st.lists(st.fixed_dictionaries({"name": WORDS}, optional={"value": WORDS}), max_size=2)
    one = st.fixed_dictionaries(
        {"name": names},
        optional={
            "image": WORDS,
            "command": st.lists(WORDS, max_size=2),
            "env": environment.map(lambda items: list({item["name"]: item for item in items}.values())),
            "resources": st.fixed_dictionaries({"limits": STRINGS}),
            "livenessProbe": st.fixed_dictionaries({}, optional={"periodSeconds": st.integers(1, 3)}),
        },
    )
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda item: item["name"])


def configs(names: st.SearchStrategy[str] = WORDS, labels: st.SearchStrategy[Any] = STRINGS) -> st.SearchStrategy[Obj]:
    return st.fixed_dictionaries(
        {
            "apiVersion": st.just("v1"),
            "kind": st.just("Pod"),
            "metadata": st.fixed_dictionaries(
                {"name": st.just("p")},
                optional={
                    "labels": labels,
                    "finalizers": st.lists(names, unique=True, max_size=2),
                },
            ),
            "spec": st.fixed_dictionaries(
                {"containers": containers(names)},
                optional={"nodeSelector": STRINGS, "tolerations": st.lists(STRINGS, max_size=2)},
            ),
        }
    )


def apply(live: Obj | None, config: Obj, manager: str, *, force: bool = True, time: str = EARLY) -> Obj:
    done = fields.apply(PODS, live, deepcopy(config), writer(manager, PODS, time=time), at, force=force).obj
    done["metadata"]["uid"] = "u"
    return done


def bare(obj: Obj) -> Obj:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "managedFields"}}


@given(configs(), configs())
@settings(max_examples=60)
def test_apply_is_idempotent(before: Obj, config: Obj) -> None:
    live = apply(apply(None, before, "first"), config, "second")
    again = apply(live, config, "second", force=False, time=LATE)
    assert fields.revert_times(again, live)


@given(configs(), configs())
@settings(max_examples=60)
def test_what_is_applied_is_there_and_owned(before: Obj, config: Obj) -> None:
    after = apply(apply(None, before, "first"), config, "second")
    node = root(PODS)
    assert merge(node, bare(after), config) == bare(after)
    mine = fields.door(PODS).limit(owned(node, config))
    assert owners(after).get("+second", {}) == mine


@given(configs(), configs(), configs())
@settings(max_examples=60)
def test_what_nobody_applies_any_more_is_gone(before: Obj, config: Obj, last: Obj) -> None:
    """Applied over by one manager alone, an object holds what the last configuration says, whatever came before."""
    live = apply(apply(None, before, "me"), config, "me")
    after = apply(live, last, "me")
    have = fields.door(PODS).limit(owned(root(PODS), bare(after)))
    want = fields.door(PODS).limit(owned(root(PODS), last))
    assert sets.difference(have, want) == {}


@given(
    configs(st.sampled_from(["a", "b"]), st.just({"l": "1"})), configs(st.sampled_from(["x", "y"]), st.just({"r": "1"}))
)
@settings(max_examples=60)
def test_disjoint_managers_do_not_meet(left: Obj, right: Obj) -> None:
    for one in (left, right):
        for name in ("nodeSelector", "tolerations"):
            one.get("spec", {}).pop(name, None)
    node = root(PODS)
    forward = apply(apply(None, left, "l", force=False), right, "r", force=False)
    back = apply(apply(None, right, "r", force=False), left, "l", force=False)
    assert not compare(node, bare(forward), bare(back))
    assert owners(forward) == owners(back)


def _unordered(value: Any) -> Any:
    """Lists with identities have no order, but their other lists do: here only commands and tolerations."""
    if isinstance(value, dict):
        return {
            name: inner if name in ("command", "tolerations") else _unordered(inner) for name, inner in value.items()
        }
    if isinstance(value, list):
        return sorted((_unordered(inner) for inner in value), key=str)
    return value


@given(configs(), configs(), configs())
@settings(max_examples=60)
def test_somebody_owns_every_leaf(first: Obj, second: Obj, third: Obj) -> None:
    live = apply(apply(None, first, "a"), second, "b")
    new = merge(root(PODS), bare(live), third)
    new["metadata"] = {**new["metadata"], "managedFields": live["metadata"].get("managedFields")}
    if not live["metadata"].get("managedFields"):
        return
    fields.track_update(PODS, new, live, writer("c", PODS, time=LATE), at)
    union: sets.FieldSet = {}
    for one in owners(new).values():
        union = sets.union(union, one)
    everything = fields.door(PODS).limit(owned(root(PODS), bare(new)))
    leaves = {path for path in sets.members(everything) if below(everything, path) == {}}
    assert leaves - {("f:metadata", "f:uid")} <= set(sets.members(union))


@given(configs(), configs())
@settings(max_examples=60)
def test_a_comparison_tells_how_to_get_from_one_to_the_other(old: Obj, new: Obj) -> None:
    node = root(PODS)
    change = compare(node, old, new)
    back = compare(node, new, old)
    assert change.added == back.removed
    assert change.removed == back.added
    assert change.modified == back.modified
    assert bool(change) == (_unordered(old) != _unordered(new))


@given(configs())
def test_shapes_do_not_depend_on_values(config: Obj) -> None:
    node = root(PODS)
    other = deepcopy(config)
    other["metadata"]["name"] = "q"
    assert added(node, config) is added(node, other)
