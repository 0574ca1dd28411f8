"""What mutations make of objects: merged by the schema's list keys, or patched; shares nothing with other objects."""

from __future__ import annotations

from typing import Any

import pytest

from orca.admission.policies.compiled import Compiled
from orca.admission.policies.mutating import Failed
from orca.admission.policies.patches import applied, json_patched, to_json
from orca.admission.policies.validating import evaluate
from orca.api.builtin import PODS
from orca.api.cel import DYN, Budget, Environment, compile
from orca.api.cel.admission import APPLIED, PATCHES, policy_environment
from orca.api.fields.types import root
from orca.api.objects import Obj

_POD: Obj = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}], "command": ["run"]},
            {"name": "b", "image": "b:1"},
        ],
        "tolerations": [{"key": "t"}],
    },
}
_ENVIRONMENT = policy_environment({}, mutating=True)


def apply(expression: str, before: Obj = _POD) -> Obj:
    value = compile(expression, _ENVIRONMENT, expects=APPLIED).evaluate({"object": before, "oldObject": None})
    return applied(root(PODS), before, value)


def test_lists_merge_by_their_keys() -> None:
    made = apply(
        "Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{"
        "name: c.name, env: [Object.spec.containers.env{name: 'Y', value: c.name}]})}}"
    )
    first, second = made["spec"]["containers"]
    assert first == {
        "name": "a",
        "image": "a:1",
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "a"}],
        "command": ["run"],
    }
    assert second == {"name": "b", "image": "b:1", "env": [{"name": "Y", "value": "b"}]}
    assert made["metadata"] == _POD["metadata"]


def test_optional_fields_and_conditions() -> None:
    made = apply(
        "Object{metadata: Object.metadata{?annotations: object.metadata.?annotations, "
        "labels: has(object.metadata.labels.env) ? {} : {'env': 'test'}}}"
    )
    assert made["metadata"] == {"name": "web", "labels": {"app": "web", "env": "test"}}


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (
            "Object{spec: Object.status{phase: 'x'}}",
            'type mismatch: unexpected type name "Object.status", expected "Object.spec"',
        ),
        ("Object{spec: Object.spec{nothing: 1}}", ".spec.nothing: field not declared in schema"),
        (
            "Object{spec: Object.spec{tolerations: [{'key': 'x'}]}}",
            "may not mutate atomic arrays, maps or structs: .spec.tolerations",
        ),
        ("Object{spec: Object.spec{containers: [Object.spec.containers{image: 'x'}]}}", "omits key field"),
        ("Object{spec: Object.spec{nodeName: optional.none()}}", "an optional without a value"),
    ],
)
def test_what_cannot_be_applied(expression: str, text: str) -> None:
    with pytest.raises(Failed) as caught:
        apply(expression)
    assert text in str(caught.value)


def test_a_json_patch_whose_test_fails_changes_nothing() -> None:
    before: Obj = {"kind": "ConfigMap", "metadata": {"name": "a"}}
    add = {"op": "add", "path": "/data", "value": {"a": "b"}}
    for test in ({"path": "/metadata/name", "value": "b"}, {"path": "/metadata/nothing", "value": "b"}):
        assert json_patched(before, [{"op": "test", **test}, add]) is before
    bad = {"op": "replace", "path": "/nothing/x", "value": 1}
    with pytest.raises(Failed, match=r"JSON Patch: replace operation does not apply: doc is missing path.*/nothing/x"):
        json_patched(before, [bad])


def test_results_are_copies() -> None:
    shared: dict[str, Any] = {"a": [{"b": 1}]}
    program = compile("[JSONPatch{op: 'add', path: '/x', value: object.a}]", _ENVIRONMENT, expects=PATCHES)
    (operation,) = to_json(program.evaluate({"object": shared}))
    assert operation == {"op": "add", "path": "/x", "value": [{"b": 1}]}
    operation["value"][0]["b"] = 2
    assert shared == {"a": [{"b": 1}]}


def test_values_that_json_has_not() -> None:
    def result(expression: str) -> Any:
        return to_json(compile(expression, Environment({"x": DYN})).evaluate({}))

    assert result("[dyn(1u), duration('90s'), timestamp(0), b'hi', null]") == [
        1,
        "90s",
        "1970-01-01T00:00:00Z",
        "aGk=",
        None,
    ]
    with pytest.raises(Failed, match=r"kubernetes\.Quantity cannot be written"):
        result("quantity('1')")


def test_variables_are_evaluated_once_and_when_needed() -> None:
    spec = {
        "variables": [
            {"name": "old", "expression": "oldObject"},
            {"name": "bad", "expression": "1 / object.zero"},
            {"name": "doubled", "expression": "variables.old == null ? object.n * 2 : 0"},
        ],
        "validations": [
            {"expression": "variables.doubled == 4 && variables.old == null"},
            {"expression": "variables.bad > 0"},
        ],
    }
    verdict = evaluate(
        Compiled(spec, mutating=False), {"object": {"n": 2, "zero": 0}, "oldObject": None}, Budget(), fail=True
    )
    (denial,) = verdict.denials
    assert denial.index == 1
    assert denial.message == (
        "expression 'variables.bad > 0' resulted in error: "
        'composited variable "bad" fails to evaluate: division by zero'
    )
