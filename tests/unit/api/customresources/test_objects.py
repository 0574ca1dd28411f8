"""Decoding, defaults and validation of custom objects."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orca.api.customresources import defaulting, embedded, gate, lists, pruning, values
from orca.api.customresources.kind import CustomKind
from orca.api.customresources.rows import definition_name
from orca.api.customresources.structural import rooted
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.api.strategy import ScalePaths
from tests.support.growth import grows_with_its_size

OPEN = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"


def spec(**properties: Any) -> dict[str, Any]:
    """A schema whose objects have ``spec`` with these fields."""
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def obj(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": fields}


def kind(schema: dict[str, Any]) -> CustomKind:
    row = Resource(
        "example.com",
        "v1",
        "widgets",
        "widget",
        "Widget",
        True,
        definition_name("example.com", "v1", "Widget"),
        "/registry/example.com/widgets",
        custom=True,
    )
    return CustomKind(row, lambda: schema)


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "integer"}, "3", 'spec.x: Invalid value: "string": spec.x in body must be of type integer: "string"'),
        ({"type": "string"}, 3, 'spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer"'),
        ({"type": "object"}, [], 'spec.x: Invalid value: "array": spec.x in body must be of type object: "array"'),
        ({"type": "string"}, None, 'spec.x: Invalid value: "null": spec.x in body must be of type string: "null"'),
        ({"type": "integer"}, 1.5, 'spec.x: Invalid value: "number": spec.x in body must be of type integer: "number"'),
        ({"type": "integer", "maximum": 10}, 15, "spec.x: Invalid value: 15: spec.x in body should be less than or equal to 10"),  # noqa: E501
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1, "spec.x: Invalid value: 1: spec.x in body should be greater than 1"),  # noqa: E501
        ({"type": "integer", "multipleOf": 5}, 7, "spec.x: Invalid value: 7: spec.x in body should be a multiple of 5"),
        ({"type": "string", "enum": ["a", "b"]}, "c", 'spec.x: Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "string", "pattern": "^a+$"}, "b", "spec.x: Invalid value: \"b\": spec.x in body should match '^a+$'"),  # noqa: E501
        ({"type": "string", "maxLength": 2}, "abc", "spec.x: Too long: may not be more than 2 bytes"),
        ({"type": "string", "minLength": 2}, "a", 'spec.x: Invalid value: "a": spec.x in body should be at least 2 chars long'),  # noqa: E501
        ({"type": "string", "format": "date-time"}, "now", 'spec.x: Invalid value: "now": spec.x in body must be of type date-time: "now"'),  # noqa: E501
        ({"type": "array", "maxItems": 1, "items": {"type": "string"}}, ["a", "b"], "spec.x: Too many: 2: must have at most 1 item"),  # noqa: E501
        ({"type": "array", "minItems": 1, "items": {"type": "string"}}, [], "spec.x: Invalid value: 0: spec.x in body should have at least 1 items"),  # noqa: E501
        ({"type": "object", "required": ["y"], "properties": {"y": {"type": "string"}}}, {}, "spec.x.y: Required value"),  # noqa: E501
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"k": 1}, 'spec.x.k: Invalid value: "integer": spec.x.k in body must be of type string: "integer"'),  # noqa: E501
        ({"type": "array", "items": {"type": "integer"}}, [1, "a"], 'spec.x[1]: Invalid value: "string": spec.x[1] in body must be of type integer: "string"'),  # noqa: E501
        ({"type": "string", "not": {"enum": ["a"]}}, "a", '<nil>: Invalid value: "": "spec.x" must not validate the schema (not)'),  # noqa: E501
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_as_upstream_tells_it(schema: Any, value: Any, told: str) -> None:
    whole = spec(x=schema)
    assert not gate.values(whole).is_valid(obj(x=value))
    assert [str(error) for error in values.check(obj(x=value), whole)] == [told]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 3.0),
        ({"type": "number"}, 3),
        ({"type": "string", "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "50%"),
        ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, 3),
        ({"type": "string", "format": "unheard-of"}, "anything"),
        ({"type": "string", "nullable": True, "enum": ["a", None]}, None),
    ],
)
def test_these_values_are_in_order(schema: Any, value: Any) -> None:
    whole = spec(x=schema)
    assert gate.values(whole).is_valid(obj(x=value))
    assert not values.check(obj(x=value), whole)


def test_one_of_tells_how_many_matched() -> None:
    one_of = [{"required": ["a"]}, {"required": ["b"]}]
    schema = spec(
        x={"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": one_of}
    )
    none = [str(error) for error in values.check(obj(x={}), schema)]
    assert (
        none[0] == '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found none valid'
    )
    assert none[1] == "spec.x.a: Required value"
    both = [str(error) for error in values.check(obj(x={"a": "", "b": ""}), schema)]
    assert both == [
        '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives'
    ]


_SCHEMA = spec(
    name={"type": "string", "minLength": 1},
    count={"type": "integer", "minimum": 0, "maximum": 5, "nullable": True},
    port={"x-kubernetes-int-or-string": True},
    labels={"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
    items={"type": "array", "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats(-2, 9, allow_nan=False)
    | st.sampled_from(["", "a", "k"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["k", "name", "x"]), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["name", "count", "port", "labels", "items", "other"]), _JSON))
def test_the_compiled_schema_and_the_explaining_walk_agree(fields: dict[str, Any]) -> None:
    one = obj(**fields)
    assert gate.values(_SCHEMA).is_valid(one) == (not values.check(one, _SCHEMA))


@example({"labels": [{"k": None}]})
@given(st.dictionaries(st.sampled_from(["name", "count", "port", "labels", "items", "other"]), _JSON))
def test_what_the_shape_passes_needs_no_pruning(fields: dict[str, Any]) -> None:
    one = obj(**fields)
    pruned = deepcopy(one)
    pruning.prune(pruned, rooted(_SCHEMA))
    pruning.drop_nulls(pruned, rooted(_SCHEMA))
    if gate.shape(_SCHEMA).is_valid(one):
        assert pruned == one
    assert not pruning.prune(deepcopy(pruned), rooted(_SCHEMA))


def test_unknown_fields_go_but_below_open_ones_only_what_is_described() -> None:
    schema = spec(
        known={"type": "string"},
        open={"type": "object", OPEN: True, "properties": {"closed": {"type": "object", "properties": {}}}},
        list={"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
    )
    one = obj(known="a", unknown=1, open={"any": {"thing": 1}, "closed": {"x": 1}}, list=[{"a": "b", "c": 1}])
    assert pruning.prune(one, rooted(schema)) == ["spec.list[0].c", "spec.open.closed.x", "spec.unknown"]
    assert one["spec"] == {"known": "a", "open": {"any": {"thing": 1}, "closed": {}}, "list": [{"a": "b"}]}


def test_metadata_keeps_only_what_objects_have_and_is_typed() -> None:
    widget = kind(spec())
    one = obj()
    one["metadata"] = {"name": "a", "labels": {"a": "b"}, "color": "red"}
    assert widget.decode(one) == ["metadata.color"]
    assert one["metadata"] == {"name": "a", "labels": {"a": "b"}}
    one["metadata"]["labels"] = {"a": 1}
    with pytest.raises(ApiError) as wrong:
        widget.decode(one)
    assert wrong.value.code == 400
    assert "cannot unmarshal number into Go struct field ObjectMeta.labels of type string" in wrong.value.message


@pytest.mark.parametrize(
    ("field", "given", "read"),
    [
        ("ownerReferences", [None], [{}]),
        ("finalizers", [None, "a/b"], ["", "a/b"]),
        ("managedFields", [{"manager": None, "operation": "Update"}, None], [{"operation": "Update"}, {}]),
        ("labels", {"a": None, "b": "null"}, {"a": "", "b": "null"}),
        ("annotations", {"a": None}, {"a": ""}),
        ("generateName", None, None),
        ("labels", {"b": "null"}, {"b": "null"}),
    ],
)
def test_nulls_of_metadata_are_read_as_go_reads_them(field: str, given: Any, read: Any) -> None:
    embedding = {"type": "object", EMBEDDED: True, OPEN: True}
    inner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", field: given}}
    one = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", field: given}}
    one["spec"] = {"pod": deepcopy(inner)}
    assert kind(spec(pod=embedding)).decode(one) == []
    expected = {"name": "a"} if read is None else {"name": "a", field: read}
    assert one["metadata"] == expected
    assert one["spec"] == {"pod": {**inner, "metadata": expected}}


def test_defaults_fill_what_is_missing_or_null_and_may_not_be() -> None:
    schema = spec(
        replicas={"type": "integer", "default": 1},
        maybe={"type": "string", "nullable": True, "default": "x"},
        nested={"type": "object", "default": {}, "properties": {"port": {"type": "integer", "default": 80}}},
        listed={
            "type": "array",
            "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}},
        },
        plain={"type": "string"},
    )
    one = obj(replicas=None, maybe=None, listed=[{}, {"p": "UDP"}], plain=None)
    widget = kind(schema)
    widget.decode(one)
    widget.defaults(one)
    assert one["spec"] == {
        "replicas": 1,
        "maybe": None,
        "nested": {"port": 80},
        "listed": [{"p": "TCP"}, {"p": "UDP"}],
    }
    assert schema["properties"]["spec"]["properties"]["nested"]["default"] == {}, "the schema stays as it is"


def test_a_stored_object_is_served_pruned_and_with_defaults_and_itself_when_nothing_changes() -> None:
    widget = kind(spec(replicas={"type": "integer", "default": 1}))
    old = {**obj(gone=1), "apiVersion": "example.com/v1beta1"}
    served = widget.settle(old)
    assert served["apiVersion"] == "example.com/v1"
    assert served["spec"] == {"replicas": 1}
    assert old["spec"] == {"gone": 1}, "what is stored is frozen"
    assert widget.settle(served) is served


def test_an_object_of_another_version_has_the_defaults_of_that_one() -> None:
    def version(*fields: str, default: str) -> CustomKind:
        return kind(
            spec(**{name: {"type": "integer", **({"default": 1} if name == default else {})} for name in fields})
        )

    stored = version("old", "both", default="both")
    served = CustomKind(
        replace(stored.row, version="v2"),
        lambda: spec(new={"type": "integer", "default": 2}, both={"type": "integer"}),
        others={"example.com/v1": stored}.get,
    )
    assert served.settle(obj(old=3)) == {**obj(both=1), "apiVersion": "example.com/v2"}
    assert served.read(obj(old=3)) == obj(old=3, both=1)
    assert served.converted(obj(new=5, gone=6)) == {**obj(new=5), "apiVersion": "example.com/v2"}
    assert served.to_stored(obj(old=5, new=6), "example.com/v1") == obj(old=5)
    unknown = {**obj(), "apiVersion": "example.com/v0"}
    assert served.settle(unknown) == {**obj(new=2), "apiVersion": "example.com/v2"}


def test_sets_and_maps_hold_nothing_twice() -> None:
    items = {"type": "object", "properties": {"n": {"type": "string"}, "p": {"type": "string", "default": "TCP"}}}
    schema = rooted(
        spec(
            tags={"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            ports={
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["n", "p"],
                "items": items,
            },
        )
    )
    found = lists.check(
        obj(tags=["a", "b", "a"], ports=[{"n": "x"}, {"n": "x", "p": "UDP"}, {"n": "x", "p": "TCP"}]), schema
    )
    assert [str(error) for error in found] == [
        'spec.tags[2]: Duplicate value: "a"',
        'spec.ports[2]: Duplicate value: {"n":"x","p":"TCP"}',
    ]


def test_embedded_resources_must_say_what_they_are() -> None:
    schema = spec(template={"type": "object", EMBEDDED: True, OPEN: True})
    widget = kind(schema)
    found = widget.validate_create(obj(template={"metadata": {"name": "Bad_"}}))
    assert [error.field for error in found] == [
        "spec.template.apiVersion",
        "spec.template.kind",
        "spec.template.metadata.name",
    ]
    assert not widget.validate_create(obj(template={"apiVersion": "v1", "kind": "Pod", "spec": {"any": 1}}))


def test_what_was_wrong_and_did_not_change_is_tolerated() -> None:
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}},  # noqa: E501
    }  # fmt: skip
    widget = kind(spec(a={"type": "string", "maxLength": 1}, b={"type": "string", "maxLength": 1}, list=keyed))
    old = obj(a="long", list=[{"k": "x", "v": "long"}])
    assert not widget.validate_update(obj(a="long", b="c", list=[{"k": "y"}, {"k": "x", "v": "long"}]), old, "")
    found = widget.validate_update(obj(a="longer", list=[{"k": "x", "v": "longer"}]), old, "")
    assert [error.field for error in found] == ["spec.a", "spec.list[0].v"]
    assert [error.field for error in widget.validate_create(old)] == ["spec.a", "spec.list[0].v"]


def test_a_list_of_type_map_is_unchanged_in_any_order() -> None:
    keyed = {
        "type": "array",
        "maxItems": 1,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {
            "type": "object",
            "required": ["k"],
            "properties": {"k": {"type": "string"}, "v": {"type": "string"}},
        },
        "x-kubernetes-validations": [{"rule": "self.all(one, one.k == 'z')", "message": "only z"}],
    }
    widget = kind(spec(list=keyed, other={"type": "string"}))
    old = obj(list=[{"k": "x", "v": "1"}, {"k": "y", "v": "2"}])
    assert not widget.validate_update(obj(list=[{"k": "y", "v": "2"}, {"k": "x", "v": "1"}], other="new"), old, "")
    for changed in ([{"k": "y", "v": "1"}, {"k": "x", "v": "1"}], [{"k": "y", "v": "2"}, {"k": "w", "v": "1"}]):
        assert [error.field for error in widget.validate_update(obj(list=changed), old, "")] == ["spec.list", "<nil>"]


def test_numbers_are_told_as_go_tells_them() -> None:
    widget = kind(spec(n={"type": "integer"}, some={"type": "array", "items": {"type": "number"}}))
    made = obj(n=1.0, some=[2.0, 2.5, 1e300])
    widget.decode(made)
    assert orjson.dumps(made["spec"]) == b'{"n":1,"some":[2,2.5,1e+300]}'


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"spec": {"n": -1}}, [".spec.n: Invalid value: -1: should be a non-negative integer"]),
        ({"spec": {"n": 2**31}}, [".spec.n: Invalid value: 2147483648: should be less than or equal to 2147483647"]),
        ({"spec": {"n": "3"}}, [".spec.n: Invalid value: 0: .spec.n accessor error: 3 is of the type string, expected int64"]),  # noqa: E501
        ({"spec": 3}, [".spec.n: Invalid value: 0: .spec.n accessor error: 3 is of the type int64, expected map[string]interface{}"]),  # noqa: E501
        ({"status": {"n": -1}}, [".status.n: Invalid value: -1: should be a non-negative integer"]),
        ({"status": {"of": 5}}, ['.status.of: Invalid value: "": .status.of accessor error: 5 is of the type int64, expected string']),  # noqa: E501
        ({"spec": {"n": 3}, "status": {"n": 0, "of": "a=b"}}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_what_a_scale_is_read_from_is_judged(fields: dict[str, Any], told: list[str]) -> None:
    paths = ScalePaths(("spec", "n"), ("status", "n"), ("status", "of"))
    open_kind = CustomKind(kind({}).row, lambda: {"type": "object", OPEN: True}, scale=paths)
    made = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, **fields}
    assert [str(error) for error in open_kind.validate_create(made)] == told
    assert [str(error) for error in open_kind.validate_update(made, obj(), "")] == told
    of_status = [one for one in told if one.startswith(".status")]
    assert [str(error) for error in open_kind.validate_update(made, obj(), "status")] == of_status


def test_cel_rules_judge_and_wait_for_values_in_order() -> None:
    schema = spec(low={"type": "integer"}, high={"type": "integer"}, mode={"type": "string", "enum": ["a"]})
    schema["properties"]["spec"]["x-kubernetes-validations"] = [
        {"rule": "self.low <= self.high", "message": "low is above high"},
        {"rule": "self.low >= oldSelf.low", "message": "low may not sink"},
    ]
    widget = kind(schema)
    assert [str(e) for e in widget.validate_create(obj(low=2, high=1))] == [
        'spec: Invalid value: "object": low is above high'
    ]
    assert [str(e) for e in widget.validate_update(obj(low=1, high=3), obj(low=2, high=3), "")] == [
        'spec: Invalid value: "object": low may not sink'
    ]
    for wrong in (obj(low="x", high=1), obj(low=2, high=1, mode="b")):
        blocked = [str(e) for e in widget.validate_create(wrong)]
        assert blocked[1].startswith("<nil>: Invalid value: null: some validation rules were not checked")


_FILLED = spec(
    name={"type": "string", "default": "n"},
    count={"type": "integer", "nullable": True, "default": 1},
    labels={"type": "object", "additionalProperties": {"type": "string", "default": "v"}},
    items={"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string", "default": "k"}}}},
)


@given(st.dictionaries(st.sampled_from(["name", "count", "labels", "items"]), _JSON))
def test_what_counts_as_complete_gets_no_defaults(fields: dict[str, Any]) -> None:
    one, tree = obj(**fields), rooted(_FILLED)
    filled = deepcopy(one)
    defaulting.fill(filled, tree)
    assert defaulting.is_complete(one, tree) == (filled == one)
    assert defaulting.is_complete(filled, tree)


def test_defaults_are_not_shared_between_objects() -> None:
    tree = rooted(spec(nested={"type": "object", "default": {"a": {}}, OPEN: True}))
    first, second = obj(), obj()
    defaulting.fill(first, tree)
    defaulting.fill(second, tree)
    first["spec"]["nested"]["a"]["x"] = 1
    assert second["spec"]["nested"] == {"a": {}}


def test_long_keys_are_not_told_with_all_that_is_below_them() -> None:
    """Paths were made for every value, each as long as its keys: tens of gigabytes of a body of a megabyte."""
    inner = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"]}
    unique = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}
    resource = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    below = {"list": {"type": "array", "items": inner}, "sets": {"type": "array", "items": unique}}
    below["resources"] = {"type": "array", "items": resource}
    schema: Any = {"type": "object", "additionalProperties": {"type": "object", "properties": below}}
    tree = rooted({"type": "object", "properties": {"spec": schema}}).properties["spec"]

    def told(size: int) -> None:
        key = "k" * (50 * size)
        value = {
            "list": [{"a": "x", "unknown": 1}] * size,
            "sets": [[1, 1]] * size,
            "resources": [{"metadata": {"unknown": 1}} for _ in range(size)],
        }
        obj = {key: value}
        assert embedded.settle_embedded(obj, tree)[1][0] == f"{key}.resources[0].metadata.unknown"
        found = pruning.prune(deepcopy(obj), tree)
        errors = values.check(obj, schema) + lists.check(obj, tree) + embedded.check(obj, tree)
        found += [error.field for error in errors]
        assert f"{key}.list[0].unknown" in found
        assert sum(map(len, found)) < 10 << 20

    assert grows_with_its_size(told, 500)
