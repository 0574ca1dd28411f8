"""CustomResourceDefinitions: what is refused, at which field, and what follows from one that is taken."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from orca.api import strategy
from orca.api.builtin import CUSTOMRESOURCEDEFINITIONS
from orca.api.customresources import columns, jsonpath, naming, review
from orca.api.customresources.rows import rows_of
from orca.api.resources import version_order

NOW = "2026-01-01T00:00:00Z"
AT = "spec.validation.openAPIV3Schema"


def crd(schema: Any = None, **spec: Any) -> dict[str, Any]:
    whole = {"type": "object", "properties": {"spec": schema}} if schema is not None else {"type": "object"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": whole}}
    made = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com", "uid": "u1"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [version],
            **spec,
        },
    }
    strategy.apply_defaults(CUSTOMRESOURCEDEFINITIONS, made)
    return made


def errors(obj: dict[str, Any]) -> list[str]:
    made = deepcopy(obj)
    strategy.prepare_create(CUSTOMRESOURCEDEFINITIONS, made)
    return [str(error) for error in strategy.validate_create(CUSTOMRESOURCEDEFINITIONS, made)]


def established(obj: dict[str, Any]) -> dict[str, Any]:
    made = deepcopy(obj)
    strategy.of(CUSTOMRESOURCEDEFINITIONS).prepare_create(made)  # type: ignore[misc]
    made["status"] = naming.settle(made, [], NOW)
    return made


def test_defaults_complete_names_and_conversion() -> None:
    made = crd()
    assert made["spec"]["names"]["singular"] == "widget"
    assert made["spec"]["names"]["listKind"] == "WidgetList"
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert errors(made) == []


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({}, f"{AT}.properties[spec].type: Required value: must not be empty for specified object fields"),
        ({"type": "array"}, f"{AT}.properties[spec].items: Required value: must be specified"),
        ({"type": "array", "items": {}}, f"{AT}.properties[spec].items.type: Required value: must not be empty for specified array items"),  # noqa: E501
        ({"type": "strange"}, f'{AT}.properties[spec].type: Unsupported value: "strange": supported values: "array", "boolean", "integer", "number", "object", "string"'),  # noqa: E501
        ({"type": "string", "pattern": "("}, f'{AT}.properties[spec].pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: '),  # noqa: E501
        ({"type": "object", "anyOf": [{"type": "object"}]}, f"{AT}.properties[spec].anyOf[0].type: Forbidden: must be empty to be structural"),  # noqa: E501
        ({"type": "integer", "default": "x"}, f'{AT}.properties[spec].default: Invalid value: "string": '),
        ({"type": "object", "default": {"a": 1}}, f'{AT}.properties[spec].default: Invalid value: {{"a":1}}: must not have unknown fields'),  # noqa: E501
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, f"{AT}.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"),  # noqa: E501
        ({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}, f"{AT}.properties[spec].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"),  # noqa: E501
        ({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}, f"{AT}.properties[spec].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"),  # noqa: E501
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}, f"{AT}.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"),  # noqa: E501
        ({"type": "object", "x-kubernetes-embedded-resource": True}, f"{AT}.properties[spec].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"),  # noqa: E501
        ({"type": "string", "x-kubernetes-preserve-unknown-fields": False}, f"{AT}.properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"),  # noqa: E501
        ({"type": "object", "$ref": "#/definitions/x"}, f"{AT}.properties[spec].$ref: Forbidden: $ref is not supported"),  # noqa: E501
    ],
)  # fmt: skip
def test_schemas_that_are_not_structural_are_refused_at_their_field(schema: Any, told: str) -> None:
    found = errors(crd(schema))
    assert found
    assert found[0].startswith(told)


def test_what_a_junctor_speaks_of_is_described_outside_of_it() -> None:
    made = crd({"type": "object", "properties": {"a": {"type": "string"}}})
    schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["anyOf"] = [{"properties": {"spec": {"properties": {"a": {"enum": ["x"]}}}}}]
    assert errors(made) == []
    schema["anyOf"][0]["properties"]["spec"]["properties"]["b"] = {"enum": ["x"]}
    at = f"{AT}.properties[spec].properties[b]"
    why = f"because it is defined in {AT}.anyOf[0].properties[spec].properties[b]"
    assert errors(made) == [f"{at}: Required value: {why}"]


def test_defaults_obey_the_rules_of_their_schema() -> None:
    ruled = {"type": "integer", "default": 3, "x-kubernetes-validations": [{"rule": "self % 2 == 0", "message": "odd"}]}
    assert errors(crd({"type": "object", "properties": {"n": ruled}})) == [
        f'{AT}.properties[spec].properties[n].default: Invalid value: "integer": odd'
    ]
    assert errors(crd({"type": "object", "properties": {"n": {**ruled, "default": 4}}})) == []


def test_int_or_string_may_repeat_its_types() -> None:
    anyhow = [{"type": "integer"}, {"type": "string"}]
    assert errors(crd({"x-kubernetes-int-or-string": True, "anyOf": anyhow})) == []
    assert errors(crd({"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": anyhow}, {"pattern": "^a"}]})) == []


def test_root_metadata_may_restrict_names_only() -> None:
    made = crd()
    schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"] = {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}}
    assert errors(made) == []
    schema["properties"]["metadata"]["properties"]["labels"] = {"type": "object"}
    assert "must not specify anything other than name and generateName" in errors(made)[0]


def test_errors_stand_at_the_version_when_versions_differ() -> None:
    made = crd({"type": "string"})
    other = deepcopy(made["spec"]["versions"][0]) | {"name": "v2", "storage": False}
    other["schema"]["openAPIV3Schema"]["properties"]["spec"] = {"type": "array"}
    made["spec"]["versions"].append(other)
    assert errors(made) == [
        "spec.versions[1].schema.openAPIV3Schema.properties[spec].items: Required value: must be specified"
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"group": "example"}, "should be a domain with at least one dot"),
        ({"scope": ""}, "spec.scope: Required value"),
        ({"preserveUnknownFields": True}, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true"),
        ({"conversion": {"strategy": "Magic"}}, 'Unsupported value: "Magic": supported values: "None", "Webhook"'),
        ({"conversion": {"strategy": "Webhook"}}, "required when strategy is set to Webhook"),
    ],
)
def test_other_mistakes(change: dict[str, Any], told: str) -> None:
    made = crd(**change)
    made["metadata"]["name"] = f"widgets.{made['spec']['group']}"
    assert any(told in one for one in errors(made)), errors(made)


def test_protected_groups_need_an_approval() -> None:
    made = crd(group="things.k8s.io")
    made["metadata"]["name"] = "widgets.things.k8s.io"
    assert "protected groups must have approval annotation" in errors(made)[0]
    made["metadata"]["annotations"] = {"api-approved.kubernetes.io": "nonsense"}
    assert 'a reason starting with "unapproved"' in errors(made)[0]
    made["metadata"]["annotations"]["api-approved.kubernetes.io"] = "https://github.com/kubernetes/kubernetes/pull/1"
    assert errors(made) == []
    status = established(made)["status"]
    assert [c["reason"] for c in status["conditions"]][-1] == "ApprovedAnnotation"


def test_what_an_established_definition_may_not_change() -> None:
    old = established(crd())
    new = deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    new["spec"]["versions"][0]["name"] = "v2"
    strategy.prepare_update(CUSTOMRESOURCEDEFINITIONS, new, old)
    found = [str(error) for error in strategy.validate_update(CUSTOMRESOURCEDEFINITIONS, new, old)]
    assert found[0] == 'spec.scope: Invalid value: "Cluster": field is immutable'
    assert found[1].startswith('status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was')


def test_versions_are_unique_and_one_is_stored() -> None:
    version = crd()["spec"]["versions"][0]
    assert [one.partition("]: ")[2] for one in errors(crd(versions=[version, version, version]))] == [
        "must contain unique version names",
        "must have exactly one version marked as storage version",
    ]
    assert errors(crd(versions=[version, {**version, "name": "v2"}]))[1] == (
        'status.storedVersions: Invalid value: ["v1"]: must have the storage version v2'
    )
    assert errors(crd(versions=[{**version, "storage": False}]))[1] == (
        "status.storedVersions: Invalid value: []: must have at least one stored version"
    )


def test_old_definitions_that_keep_everything_convert_nothing() -> None:
    made = crd(preserveUnknownFields=True, conversion={"strategy": "Webhook"})
    assert (
        'spec.conversion.strategy: Invalid value: "Webhook": must be None if spec.preserveUnknownFields is true'
        in errors(made)
    )


def test_deprecation_warnings_are_of_deprecated_versions_and_short() -> None:
    version = crd()["spec"]["versions"][0]
    at = "spec.versions[0].deprecationWarning: Invalid value: "
    long = "x" * 257
    for deprecated, text, told in (
        (False, long, "can only be set for deprecated versions"),
        (True, long, "must be <= 256 characters long"),
        (True, "é\x07", "must only contain printable UTF-8 characters; non-printable character found at index 2"),
    ):
        (found,) = errors(crd(versions=[{**version, "deprecated": deprecated, "deprecationWarning": text}]))
        assert found.startswith(at)
        assert found.endswith(told)


def test_selectable_fields_point_to_plain_values_outside_metadata() -> None:
    made = crd({"type": "object", "properties": {"color": {"type": "string"}, "sizes": {"type": "object"}}})
    paths = [".spec.color", ".spec.sizes", ".spec.shape", ".spec.color"]
    made["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": path} for path in paths]
    assert [one.partition(": ")[0] for one in errors(made)] == [
        f"spec.selectableFields[{i}].jsonPath" for i in (1, 2, 3)
    ]


def test_names_are_given_once() -> None:
    first = established(crd())
    second = crd(names={"plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"]})
    second["metadata"] = {"name": "gadgets.example.com", "uid": "u2"}
    status = naming.settle(second, [first], NOW)
    assert status is not None
    accepted, established_ = status["conditions"]
    assert (accepted["status"], accepted["reason"], accepted["message"]) == (
        "False",
        "ShortNamesConflict",
        '"wd" is already in use',
    )
    assert (established_["status"], established_["reason"]) == ("False", "NotAccepted")
    assert status["acceptedNames"]["plural"] == "gadgets"
    assert "shortNames" not in status["acceptedNames"]
    second["status"] = status
    later = naming.settle(second, [], NOW)
    assert later is not None
    assert later["acceptedNames"]["shortNames"] == ["wd"]
    second["status"] = later
    assert naming.settle(second, [first], NOW) is None, "who has a name keeps it"


def test_rows_of_all_served_versions_share_their_storage() -> None:
    made = crd()
    beta = deepcopy(made["spec"]["versions"][0]) | {"name": "v1beta1", "storage": False, "deprecated": True}
    hidden = deepcopy(beta) | {"name": "v1alpha1", "served": False}
    made["spec"]["versions"] = [beta, hidden, made["spec"]["versions"][0]]
    assert rows_of(made) == [], "not before it is established"
    rows = [served.row for served in rows_of(established(made))]
    assert [row.api_version for row in rows] == ["example.com/v1", "example.com/v1beta1"]
    assert {row.storage for row in rows} == {"/registry/example.com/widgets"}
    assert {row.stored_as for row in rows} == {"example.com/v1"}
    assert rows[1].warning == "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"
    assert rows[0].definition == "com.example.v1.Widget"
    made["spec"]["versions"][2]["deprecated"] = True
    assert rows_of(established(made))[1].row.warning == "example.com/v1beta1 Widget is deprecated"
    assert rows_of(established(made))[1].row.fingerprint != rows[1].fingerprint


def test_versions_are_ordered_as_kubernetes_orders_them() -> None:
    wanted = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    assert sorted(set(wanted), key=version_order) == wanted


OBJ = {
    "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a.b/c": "x"}},
    "spec": {"n": 3, "on": True, "hosts": ["h1", "h2"], "when": "2025-12-31T23:00:00Z"},
    "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]),
        (".spec.hosts[0]", ["h1"]),
        (".spec.hosts[-1]", ["h2"]),
        (".spec.hosts[0:1]", ["h1"]),
        (".spec.hosts[*]", ["h1", "h2"]),
        (".spec.hosts", [["h1", "h2"]]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='None')].status", []),
        (r".metadata.labels.a\.b/c", ["x"]),
        (".metadata.labels['a.b/c']", ["x"]),
        ("..type", ["A", "Ready"]),
        (".spec['n','on']", [3, True]),
        (".spec.missing.deeper", []),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    assert jsonpath.parse(path).find(OBJ) == found


@pytest.mark.parametrize("path", [".spec[", ".spec[?(@.a ~ 1)]", ".spec{", ".a[x]"])
def test_what_is_no_json_path(path: str) -> None:
    with pytest.raises(jsonpath.BadPath):
        jsonpath.parse(path)


def test_columns_show_values_by_their_type() -> None:
    told = [
        {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
        {"name": "Text", "type": "string", "jsonPath": ".spec.n", "priority": 1},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "When", "type": "date", "jsonPath": ".spec.when"},
        {"name": "Wrong", "type": "integer", "jsonPath": ".spec.hosts"},
        {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
        {"name": "None", "type": "string", "jsonPath": ".spec.none"},
        {"name": "Map", "type": "string", "jsonPath": ".map"},
    ]
    used = columns.printer(told)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    obj = {**OBJ, "map": {"b": "<", "a": 1}}
    assert used.render(obj, now) == ["a", 3, "3", True, "60m", None, '["h1","h2"]', None, '{"a":1,"b":"\\u003c"}']
    assert used.definitions[2]["priority"] == 1
    assert columns.printer([]).render(OBJ, now) == ["a", "0s"]


def test_a_conversion_may_change_labels_and_annotations_and_nothing_else_of_the_metadata() -> None:
    before = [
        {
            "apiVersion": "e.com/v1",
            "kind": "W",
            "metadata": {"name": "a", "uid": "u", "labels": {"x": "1"}, "generation": 3},
        }
    ]
    after = {
        "apiVersion": "e.com/v2",
        "kind": "W",
        "spec": {},
        "metadata": {"name": "a", "uid": "u", "labels": {"y": "2"}, "generation": 9},
    }
    answer = {
        "kind": "ConversionReview",
        "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": "r", "result": {"status": "Success"}, "convertedObjects": [after]},
    }
    made = review.take(answer, before, "e.com/v2", "v1", "r")
    assert made == [{**after, "metadata": {"name": "a", "uid": "u", "labels": {"y": "2"}, "generation": 3}}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"uid": "other"}, 'expected response.uid="r", got "other"'),
        ({"result": {"status": "Failure", "message": "cannot"}}, "failed: cannot"),
        ({"convertedObjects": []}, "returned 0 objects, expected 1"),
        ({"convertedObjects": [{"apiVersion": "e.com/v1"}]}, "invalid apiVersion: e.com/v1 != e.com/v2"),
        (
            {"convertedObjects": [{"apiVersion": "e.com/v2", "kind": "W", "metadata": {"name": "b"}}]},
            "must have the same name: a != b",
        ),
    ],
)
def test_answers_of_conversion_webhooks_that_are_not_taken(change: dict[str, Any], told: str) -> None:
    before = [{"apiVersion": "e.com/v1", "kind": "W", "metadata": {"name": "a"}}]
    response = {"uid": "r", "result": {"status": "Success"}, "convertedObjects": [{}], **change}
    answer = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response}
    with pytest.raises(review.ConversionFailed) as failed:
        review.take(answer, before, "e.com/v2", "v1", "r")
    assert "conversion webhook for e.com/v1, Kind=W" in str(failed.value)
    assert told in str(failed.value)
