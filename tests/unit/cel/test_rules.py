"""x-kubernetes-validations: scoping, transitions, messages, and what a definition is refused for.

Facts from k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/cel/{validation,compilation}_test.go``.
"""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.allowance import TooLong, briefly
from orca.api.cel.rules import compile_rules
from orca.api.cel.schemas import escape
from orca.api.errors import FieldError


def schema(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def ruled(told: dict[str, Any], *rules: str | dict[str, Any]) -> dict[str, Any]:
    made = [{"rule": rule} if isinstance(rule, str) else rule for rule in rules]
    return {**told, "x-kubernetes-validations": made}


def texts(errors: list[FieldError]) -> list[str]:
    return [str(error) for error in errors]


INTEGER = {"type": "integer"}
STRING = {"type": "string"}


def test_a_schema_without_rules_costs_nothing() -> None:
    rules = compile_rules(schema(spec=schema(a=INTEGER)))
    assert not rules
    assert rules.validate({"spec": {"a": 1}}) == []


def test_self_is_where_the_rule_stands() -> None:
    rules = compile_rules(
        schema(
            spec=ruled(
                schema(replicas=ruled(INTEGER, "self >= 0"), least=INTEGER),
                {"rule": "self.replicas <= 10", "message": "replicas must be <= 10"},
                "self.least <= self.replicas",
            )
        )
    )
    assert rules.errors("schema") == []
    assert texts(rules.validate({"spec": {"replicas": 11, "least": 12}})) == [
        'spec: Invalid value: "object": replicas must be <= 10',
        'spec: Invalid value: "object": failed rule: self.least <= self.replicas',
    ]
    assert texts(rules.validate({"spec": {"replicas": -1, "least": -2}})) == [
        'spec.replicas: Invalid value: "integer": failed rule: self >= 0'
    ]
    assert rules.validate({}) == []


def test_an_absent_field_is_an_error_unless_asked_for() -> None:
    rules = compile_rules(schema(spec=ruled(schema(a=INTEGER), "self.a > 0")))
    assert texts(rules.validate({"spec": {}})) == [
        'spec: Invalid value: "object": no such key: a evaluating rule: self.a > 0'
    ]
    rules = compile_rules(schema(spec=ruled(schema(a=INTEGER), "!has(self.a) || self.a > 0", "self.?a.orValue(1) > 0")))
    assert rules.validate({"spec": {}}) == []


def test_reason_place_and_message_expression() -> None:
    rules = compile_rules(
        schema(
            spec=ruled(
                schema(a=INTEGER, m={"type": "object", "additionalProperties": STRING}),
                {
                    "rule": "self.a < 5",
                    "messageExpression": "'a is ' + string(self.a) + ', at most 4'",
                    "reason": "FieldValueForbidden",
                    "fieldPath": ".a",
                },
                {"rule": "self.a < 6", "reason": "FieldValueRequired", "message": " wanted "},
                {"rule": "self.a < 7", "reason": "FieldValueDuplicate", "fieldPath": ".m['x.y']"},
                {"rule": "self.a < 8", "message": "plain", "messageExpression": "self.m['none']"},
            )
        )
    )
    assert rules.errors("schema") == []
    assert texts(rules.validate({"spec": {"a": 9}})) == [
        "spec.a: Forbidden: a is 9, at most 4",
        "spec: Required value: wanted",
        'spec.m[x.y]: Duplicate value: "object"',
        'spec: Invalid value: "object": plain',
    ]


def test_transition_rules_need_an_old_value() -> None:
    rules = compile_rules(schema(spec=schema(name=ruled(STRING, {"rule": "self == oldSelf", "message": "immutable"}))))
    assert rules.validate({"spec": {"name": "a"}}) == []
    assert rules.validate({"spec": {"name": "a"}}, {"spec": {}}) == []
    assert texts(rules.validate({"spec": {"name": "b"}}, {"spec": {"name": "a"}})) == [
        'spec.name: Invalid value: "string": immutable'
    ]


def test_optional_old_self_runs_on_create() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": True}
    rules = compile_rules(schema(name=ruled(STRING, rule)))
    assert rules.errors("schema") == []
    assert len(rules.validate({"name": "second"})) == 1
    assert rules.validate({"name": "first"}) == []
    assert rules.validate({"name": "second"}, {"name": "first"}) == []


def test_items_of_list_maps_are_found_again_by_their_keys() -> None:
    item = ruled({**schema(name=STRING, port=INTEGER), "required": ["name"]}, "self.port == oldSelf.port")
    listed = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    rules = compile_rules(schema(ports={**listed, "maxItems": 10}))
    assert rules.errors("schema") == []
    old = {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}
    assert rules.validate({"ports": [{"name": "b", "port": 2}, {"name": "new", "port": 9}]}, old) == []
    assert texts(rules.validate({"ports": [{"name": "b", "port": 3}]}, old)) == [
        'ports[0]: Invalid value: "object": failed rule: self.port == oldSelf.port'
    ]


def test_old_self_has_no_place_in_lists_that_cannot_be_matched() -> None:
    rules = compile_rules(schema(names={"type": "array", "maxItems": 5, "items": ruled(STRING, "self == oldSelf")}))
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[names]" in str(
        rules.errors("schema")[-1]
    )


def test_lists_that_are_sets_compare_and_join_as_sets() -> None:
    told = {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"}
    rules = compile_rules(schema(spec=ruled(schema(s=told), "self.s == oldSelf.s", "(self.s + oldSelf.s).size() == 2")))
    assert rules.validate({"spec": {"s": ["b", "a"]}}, {"spec": {"s": ["a", "b"]}}) == []


def test_what_was_wrong_and_did_not_change_only_warns() -> None:
    rules = compile_rules(schema(spec=ruled(schema(a=INTEGER, b=INTEGER), "self.a < 5"), other=INTEGER))
    warned: list[str] = []
    old = {"spec": {"a": 9}, "other": 1}
    assert rules.validate({"spec": {"a": 9}, "other": 2}, old, warnings=warned) == []
    assert warned == ['spec: Invalid value: "object": failed rule: self.a < 5']
    assert len(rules.validate({"spec": {"a": 9, "b": 1}}, old)) == 1


def test_the_root_sees_little_of_metadata() -> None:
    rules = compile_rules(ruled(schema(spec=schema(a=INTEGER)), "self.metadata.name.startsWith('x')"))
    assert texts(rules.validate({"metadata": {"name": "y"}})) == [
        "<nil>: Invalid value: \"object\": failed rule: self.metadata.name.startsWith('x')"
    ]
    wrong = compile_rules(ruled(schema(spec=schema(a=INTEGER)), "has(self.metadata.labels)"))
    assert "undefined field 'labels'" in str(wrong.errors("schema")[0])


def test_values_have_the_types_the_schema_says() -> None:
    fields = {
        "number": {"type": "number"},
        "time": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "life": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte"},
        "either": {"x-kubernetes-int-or-string": True},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": True},
    }
    rules = compile_rules(
        schema(
            spec=ruled(
                schema(**fields),
                "self.number == 1.0 && type(self.number) == double",
                "self.time > timestamp('2020-01-01T00:00:00Z') && self.day.getFullYear() == 2024",
                "self.life == duration('90m') && self.data == b'hello'",
                "self.either == 5 || self.either == '50%'",
                "self.embedded.kind == 'Pod' && self.embedded.metadata.name == 'x'",
            )
        )
    )
    assert rules.errors("schema") == []
    spec = {
        "number": 1,
        "time": "2024-01-01T00:00:00Z",
        "day": "2024-02-03",
        "life": "1h30m",
        "data": "aGVsbG8=",
        "either": "50%",
        "embedded": {"kind": "Pod", "metadata": {"name": "x"}},
    }
    assert rules.validate({"spec": spec}) == []
    assert rules.validate({"spec": {**spec, "either": 5}}) == []


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain", "plain"),
        ("a-b", "a__dash__b"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("a__b", "a__underscores__b"),
        ("in", "__in__"),
        ("namespace", "__namespace__"),
        ("int", "int"),
        ("a b", None),
        ("1a", None),
    ],
)
def test_names_are_escaped(name: str, written: str | None) -> None:
    assert escape(name) == written
    if written is not None:
        rules = compile_rules(
            schema(spec=ruled(schema(**{name: INTEGER}), f"self.{written} == 1 && has(self.{written})"))
        )
        assert rules.errors("schema") == []
        assert rules.validate({"spec": {name: 1}}) == []
        assert len(rules.validate({"spec": {name: 2}})) == 1


@pytest.mark.parametrize(
    ("rule", "field", "text"),
    [
        ({"rule": "self.foo"}, "rule", "undefined field 'foo'"),
        ({"rule": "self.a"}, "rule", "cel expression must evaluate to a bool"),
        ({"rule": "self.a == 'x'"}, "rule", "found no matching overload for '_==_' applied to '(int, string)'"),
        ({"rule": "object.a == 1"}, "rule", "undeclared reference to 'object'"),
        ({"rule": " "}, "rule", "Required value: rule is not specified"),
        ({"rule": "self.a >\n1"}, "message", "message must be specified if rule contains line breaks"),
        ({"rule": "self.a > 1", "message": "a\nb"}, "message", "message must not contain line breaks"),
        ({"rule": "self.a > 1", "message": "  "}, "message", "message must be non-empty if specified"),
        ({"rule": "self.a > 1", "messageExpression": "1"}, "messageExpression", "must evaluate to a string"),
        ({"rule": "self.a > 1", "reason": "Other"}, "reason", "Unsupported value"),
        ({"rule": "self.a > 1", "fieldPath": ".b"}, "fieldPath", "does not refer to a valid field"),
        ({"rule": "self.a > 1", "fieldPath": "a"}, "fieldPath", "expected [ or . but got: a"),
        ({"rule": "self.a > 1", "optionalOldSelf": True}, "optionalOldSelf", "oldSelf is not used in rule"),
    ],
)
def test_definitions_are_refused(rule: dict[str, Any], field: str, text: str) -> None:
    (error,) = compile_rules(schema(spec=ruled(schema(a=INTEGER), rule))).errors("schema")
    assert error.field == f"schema.properties[spec].x-kubernetes-validations[0].{field}"
    assert text in str(error)


def test_nested_loops_without_bounds_are_refused() -> None:
    names = {"type": "array", "items": STRING}
    loop = "self.names.all(x, self.names.exists_one(y, x == y))"
    first, *_ = compile_rules(schema(spec=ruled(schema(names=names), loop))).errors("schema")
    assert str(first) == (
        "schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by "
        "factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where "
        "arrays, maps, and strings are declared)"
    )
    bounded = {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}}
    assert compile_rules(schema(spec=ruled(schema(names=bounded), loop))).errors("schema") == []
    # One loop over a list of any length is allowed.
    once = "self.names.all(x, x != '')"
    assert compile_rules(schema(spec=ruled(schema(names=names), once))).errors("schema") == []


def test_the_budget_of_an_object_ends() -> None:
    rules = compile_rules(schema(a=ruled({"type": "array", "items": INTEGER}, "self.all(x, x > 0)", "self.size() > 0")))
    errors = rules.validate({"a": [1] * 1000}, budget=2000)
    assert texts(errors) == [
        'a: Invalid value: "array": validation failed due to running out of cost budget, no further validation rules '
        "will be run"
    ]


def test_what_takes_long_is_given_up_when_asked_to() -> None:
    rules = compile_rules(schema(a=ruled({"type": "array", "items": INTEGER}, "self.all(x, self.exists(y, x == y))")))
    few, many = {"a": list(range(10))}, {"a": list(range(200))}
    with briefly():
        assert rules.validate(few) == []
        with pytest.raises(TooLong):
            rules.validate(many)
    assert rules.validate(many) == []


def test_a_field_that_is_null_is_absent_but_entries_may_be_null() -> None:
    nullable = {"type": "string", "nullable": True}
    rules = compile_rules(
        schema(
            spec=ruled(
                schema(f=nullable, m={"type": "object", "additionalProperties": nullable}),
                "!has(self.f) && !self.?f.hasValue()",
                "'a' in self.m && has(self.m.a) && type(self.m['a']) == null_type",
            )
        )
    )
    assert rules.errors("schema") == []
    assert rules.validate({"spec": {"f": None, "m": {"a": None}}}) == []


def test_int_or_string_and_percentages() -> None:
    fields = {"min": {"x-kubernetes-int-or-string": True}, "current": INTEGER, "available": INTEGER}
    rules = compile_rules(
        schema(
            spec=ruled(
                schema(**fields),
                r"type(self.min) == string ? self.min.matches(r'(\d+(\.\d+)?%)') : self.min > 0",
                "type(self.min) == int ? self.current >= self.min : double(self.current) / double(self.available) >= "
                "double(self.min.replace('%', '')) / 100.0",
                "self.min != ['anything']",
            )
        )
    )
    assert rules.errors("schema") == []
    assert rules.validate({"spec": {"min": "50%", "current": 5, "available": 10}}) == []
    assert rules.validate({"spec": {"min": 4, "current": 5, "available": 10}}) == []
    assert len(rules.validate({"spec": {"min": "60%", "current": 5, "available": 10}})) == 1


def test_fields_without_a_type_are_not_seen_but_compared() -> None:
    unknown = {"x-kubernetes-preserve-unknown-fields": True}
    told = {"type": "array", "maxItems": 5, "items": {"type": "object", **unknown}}
    rules = compile_rules(
        schema(spec=ruled(schema(l=told, any=unknown), "self.l[0] == self.l[1] && self.l[0] != self.l[2]"))
    )
    assert rules.errors("schema") == []
    assert rules.validate({"spec": {"l": [{"a": 1}, {"a": 1}, {"a": "1"}], "any": 1}}) == []
    wrong = compile_rules(schema(spec=ruled(schema(any=unknown), "self.any == 1")))
    assert "undefined field 'any'" in str(wrong.errors("schema")[0])
