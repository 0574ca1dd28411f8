"""Bodies are decoded as upstream does: same texts, same tolerance."""

from importlib.util import find_spec
from pathlib import Path

import jsonschema_rs
import orjson
import pytest

from orca.api import definitions, zeros
from orca.api.builtin import BUILTIN, CONTROLLERREVISIONS, CRONJOBS, DEPLOYMENTS, PODS, RESOURCESLICES, ROLES, SECRETS
from orca.api.errors import ApiError
from orca.api.repeated import MAX_STRICT_ERRORS
from orca.api.schema import SCHEMA, Schema, decode

PREFIX = 'Pod in version "v1" cannot be handled as a Pod: '


def refused(resource, body):
    with pytest.raises(ApiError) as caught:
        decode(resource, body, refuse_unknown=True)
    assert caught.value.code == 400
    return caught.value.message


def test_every_row_has_a_definition_of_its_kind():
    for row in BUILTIN:
        kinds = SCHEMA.definition(row.definition)["x-kubernetes-group-version-kind"]
        assert {"group": row.group, "version": row.version, "kind": row.kind} in kinds


def test_equal_parts_of_definitions_are_there_once():
    """They are three megabytes otherwise."""
    seen = {}

    def walk(value):
        if isinstance(value, (dict, list)) and value:
            # Members in their order, as documents show them.
            assert seen.setdefault(orjson.dumps(value), value) is value
            for inner in value.values() if isinstance(value, dict) else value:
                walk(inner)

    for definition in dict(definitions.read()).values():
        walk(definition)


def test_definitions_are_what_the_package_says():
    folder = Path(find_spec("kubernetes_validate").origin).parent
    said = orjson.loads(next(folder.glob("**/v1.36.0-local/_definitions.json")).read_bytes())["$defs"]
    read = definitions.read()
    assert orjson.dumps({name: read[name] for name in said}) == orjson.dumps(said)


def test_every_definition_compiles():
    for row in BUILTIN:
        assert SCHEMA.is_valid(row, {})


@pytest.mark.parametrize(
    ("row", "path"),
    [
        (PODS, "metadata"),
        (PODS, "spec"),
        (DEPLOYMENTS, "metadata"),
        (DEPLOYMENTS, "spec.template.metadata"),
        (DEPLOYMENTS, "spec.template.spec"),
        (CRONJOBS, "spec.jobTemplate.metadata"),
        (CRONJOBS, "spec.jobTemplate.spec.template.metadata"),
        (CRONJOBS, "spec.jobTemplate.spec.template.spec"),
    ],
)
def test_what_many_kinds_have_is_judged_in_each(row, path):
    def holding(value):
        for key in reversed(path.split(".")):
            value = {key: value}
        return value

    assert all(SCHEMA.is_valid(row, holding(fine)) for fine in (None, {}))
    assert not any(SCHEMA.is_valid(row, holding(wrong)) for wrong in ("", 0, [], False, {"foo": 1}))
    while "." in path:
        path = path.rpartition(".")[0]
        assert all(SCHEMA.is_valid(row, holding(fine)) for fine in (None, {}))
        assert not any(SCHEMA.is_valid(row, holding(wrong)) for wrong in ("", [], {"foo": 1}))


def test_what_many_kinds_have_is_compiled_once(monkeypatch):
    """The spec of pods takes 640 KB compiled, and eight kinds have one."""
    compiled = []
    make = jsonschema_rs.Draft202012Validator
    monkeypatch.setattr(jsonschema_rs, "Draft202012Validator", lambda one: compiled.append(str(one)) or make(one))
    schema = Schema()
    assert all(schema.is_valid(row, {}) for row in BUILTIN)
    assert sum("'topologySpreadConstraints'" in one for one in compiled) == 1
    assert sum("'deletionGracePeriodSeconds'" in one for one in compiled) < 8  # of templates in lists


def test_a_good_body_is_the_same_object():
    body = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1}}}]}}
    decoded, warnings = decode(PODS, body, refuse_unknown=True)
    assert decoded is body
    assert warnings == []


def test_nulls_are_absent():
    body = {"metadata": {"name": "a", "creationTimestamp": None}, "spec": {"containers": [None]}, "status": None}
    decoded, _ = decode(PODS, body, refuse_unknown=True)
    assert decoded == {"metadata": {"name": "a"}, "spec": {"containers": [{}]}}


def test_nulls_in_maps_of_plain_values_are_zeros():
    metadata = {"name": "a", "labels": {"a": None, "b": "c"}, "annotations": {"a": None}}
    container = {"name": "a", "resources": {"limits": {"cpu": None}}}
    body = {"metadata": metadata, "spec": {"nodeSelector": {"a": None}, "containers": [container]}}
    decoded, _ = decode(PODS, body, refuse_unknown=True)
    assert decoded["metadata"]["labels"] == {"a": "", "b": "c"}
    assert decoded["metadata"]["annotations"] == {"a": ""}
    assert decoded["spec"]["nodeSelector"] == {"a": ""}
    assert decoded["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "0"}}


def test_zeros_that_upstream_does_not_encode_are_absent():
    container = {
        "name": "a",
        "tty": False,
        "env": [{"name": "E", "value": ""}],
        "ports": [{"containerPort": 0, "hostPort": 0}],
        "readinessProbe": {"initialDelaySeconds": 0, "terminationGracePeriodSeconds": 0},
        "securityContext": {"privileged": False, "runAsUser": 0},
    }
    pod = {"hostNetwork": False, "nodeName": "", "automountServiceAccountToken": False, "containers": [container]}
    body = {"spec": {"replicas": 0, "minReadySeconds": 0, "paused": False, "template": {"spec": pod}}}
    decoded, _ = decode(DEPLOYMENTS, body, refuse_unknown=True)
    left = {
        "name": "a",
        "env": [{"name": "E"}],
        "ports": [{"containerPort": 0}],
        "readinessProbe": {"terminationGracePeriodSeconds": 0},
        "securityContext": {"privileged": False, "runAsUser": 0},
    }
    template = {"spec": {"automountServiceAccountToken": False, "containers": [left]}}
    assert decoded == {"spec": {"replicas": 0, "template": template}}
    assert "cannot unmarshal number" in refused(PODS, {"spec": {"hostNetwork": 0}})
    assert "cannot unmarshal bool" in refused(PODS, {"spec": {"nodeName": False}})


def test_fields_whose_zeros_are_left_out_may_be_absent():
    kinds = {name: body for name, body in SCHEMA.definitions.items() if name.startswith("io.k8s.api.")}
    for name, fields in zeros.OMITTED.items():
        of_the_name = [body for full, body in kinds.items() if full.rpartition(".")[2] == name]
        assert of_the_name, name
        for body in of_the_name:
            assert fields <= body["properties"].keys() - set(body.get("required", ())), name


def test_unknown_fields_are_named_with_their_path():
    body = {"spec": {"foo": 1, "template": {"spec": {"containers": [{"imag": "x"}]}}}}
    expected = 'unknown field "spec.foo", unknown field "spec.template.spec.containers[0].imag"'
    assert refused(DEPLOYMENTS, body).endswith(f"strict decoding error: {expected}")


def test_paths_are_only_made_of_what_is_told():
    """They may be as long as the body, and as many; together they would take all memory."""
    counters = {f"k{'x' * 1_000_000}": {f"u{number}": 1 for number in range(100_000)}}
    spec = {"sharedCounters": [{"name": "s", "counters": counters}]}
    decoded, told = decode(RESOURCESLICES, {"spec": spec}, refuse_unknown=False, warn=True)
    assert decoded["spec"]["sharedCounters"][0]["counters"] == {key: {} for key in counters}
    assert len(told) == MAX_STRICT_ERRORS


def test_unknown_fields_are_pruned_and_warned_of():
    decoded, warnings = decode(PODS, {"spec": {"foo": 1, "nodeName": "n"}}, refuse_unknown=False, warn=True)
    assert decoded == {"spec": {"nodeName": "n"}}
    assert warnings == ['unknown field "spec.foo"']


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"spec": {"containers": [{"env": [{"value": 1}]}]}},
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        ({"spec": {"containers": [{"resources": {"limits": {"cpu": "1xx"}}}]}}, "quantities must match the regular"),
        ({"spec": {"containers": [{"resources": {"limits": {"cpu": "1mm"}}}]}}, "unable to parse quantity's suffix"),
        ({"metadata": {"creationTimestamp": "soon"}}, 'parsing time "soon" as'),
        ([], "json: cannot unmarshal array into Go value of type v1.Pod"),
    ],
)
def test_wrong_types_are_told_as_go_does(body, text):
    assert refused(PODS, body).startswith(PREFIX + text)


def test_numbers_that_do_not_fit():
    text = "json: cannot unmarshal number 9999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"
    assert refused(DEPLOYMENTS, {"spec": {"replicas": 9999999999}}).endswith(text)


def test_base64():
    assert refused(SECRETS, {"data": {"a": "***"}}).endswith("illegal base64 data at input byte 0")
    assert refused(SECRETS, {"data": {"a": "abc"}}).endswith("illegal base64 data at input byte 0")
    decode(SECRETS, {"data": {"a": "YWJj", "b": ""}}, refuse_unknown=True)


def test_optional_lists_and_maps_without_content_are_as_if_they_were_not_there():
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {}, "annotations": {"text": '"labels":{} and []'}, "finalizers": []},
        "spec": {
            "containers": [{"name": "c", "env": [], "args": [""], "securityContext": {"capabilities": {"add": []}}}],
            "nodeSelector": {},
            "securityContext": {},
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    kept, _ = decode(PODS, pod, refuse_unknown=True)
    assert kept["metadata"] == {"name": "p", "annotations": {"text": '"labels":{} and []'}}
    assert kept["spec"] == {
        "containers": [{"name": "c", "args": [""], "securityContext": {"capabilities": {}}}],
        "securityContext": {},
        "volumes": [{"name": "v", "emptyDir": {}}],
    }


def test_required_lists_and_those_that_are_always_shown_stay_empty():
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": []}
    assert decode(ROLES, role, refuse_unknown=True)[0] == role
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}
    assert decode(PODS, pod, refuse_unknown=True)[0] == pod


def test_an_empty_list_of_managers_says_something_of_the_object_only():
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "managedFields": []},
        "spec": {"template": {"metadata": {"labels": {"app": "d"}, "managedFields": []}}},
    }
    kept, _ = decode(DEPLOYMENTS, deployment, refuse_unknown=True)
    assert kept["metadata"] == {"name": "d", "managedFields": []}
    assert kept["spec"]["template"]["metadata"] == {"labels": {"app": "d"}}


def test_what_has_no_schema_keeps_what_is_empty():
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "r", "labels": {}},
        "data": {"spec": {"labels": {}, "list": []}},
        "revision": 1,
    }
    kept, _ = decode(CONTROLLERREVISIONS, revision, refuse_unknown=True)
    assert kept == {**revision, "metadata": {"name": "r"}}
