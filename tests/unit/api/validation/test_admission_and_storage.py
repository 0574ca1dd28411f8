"""Webhooks, policies, classes and CSI objects: what upstream refuses, where, and in which words."""

import pytest

from orca.api import builtin
from tests.unit.api.validation.objects import changed, refused

RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}


def hook(rule=None, client=None, **fields):
    return {"webhooks": [{
        "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": client or {"service": {"namespace": "n", "name": "s"}},
        "rules": [{**RULE, **(rule or {})}], **fields,
    }]}  # fmt: skip


R, C = "webhooks[0].rules[0]", "webhooks[0].clientConfig"
FORM = "; desired format: https://host[/path]"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (hook(), []),
        (hook(name="a.b"),
         ['webhooks[0].name: Invalid value: "a.b": '
          "should be a domain with at least three segments separated by dots"]),
        (hook({"resources": ["pods/*", "pods/log", "*/scale", "a/scale", ""]}),
         [f'{R}.resources[1]: Invalid value: "pods/log": if \'pods/*\' is present, must not specify pods/log',
          f'{R}.resources[3]: Invalid value: "a/scale": if \'*/scale\' is present, must not specify a/scale',
          f"{R}.resources[4]: Required value"]),
        (hook({"resources": ["*", "pods"]}),
         [f'{R}.resources: Invalid value: ["*","pods"]: '
          "if '*' is present, must not specify other resources without subresources"]),
        (hook({"resources": ["*/*", "pods/log"]}),
         [f'{R}.resources: Invalid value: ["*/*","pods/log"]: '
          "if '*/*' is present, must not specify other resources"]),
        (hook({"scope": ""}), [f'{R}.scope: Unsupported value: "": supported values: "*", "Cluster", "Namespaced"']),
        (hook(sideEffects="Some"),
         ['webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"']),
        (hook(client={"url": "http://u:p@/x?a#b"}),
         [f'{C}.url: Invalid value: "http": \'https\' is the only allowed URL scheme{FORM}',
          f'{C}.url: Invalid value: "": host must be specified{FORM}',
          f'{C}.url: Invalid value: "u:p": user information is not permitted in the URL',
          f'{C}.url: Invalid value: "b": fragments are not permitted in the URL',
          f'{C}.url: Invalid value: "a": query parameters are not permitted in the URL']),
        (hook(client={"service": {"namespace": "n", "name": "s", "path": "a//b"}}),
         [f'{C}.service.path: Invalid value: "a//b": must start with a \'/\'',
          f'{C}.service.path: Invalid value: "a//b": segment[0] may not be empty',
          f'{C}.service.path: Invalid value: "a//b": segment[1] may not be empty']),
        (hook(admissionReviewVersions=["v1", "v1"]),
         ['webhooks[0].admissionReviewVersions[1]: Invalid value: "v1": duplicate version']),
    ],
)  # fmt: skip
def test_webhooks(body, expected):
    assert refused(builtin.VALIDATINGWEBHOOKCONFIGURATIONS, body) == expected


VALIDATION = {"expression": "true"}
WHAT = {"resourceRules": [RULE]}


def policy(**spec):
    return {"spec": {"matchConstraints": WHAT, "validations": [VALIDATION], **spec}}


def mutating(operation="CREATE", **mutation):
    rules = {"resourceRules": [{**RULE, "operations": [operation]}]}
    wanted = {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}, **mutation}
    return {"spec": {"matchConstraints": rules, "mutations": [wanted]}}


def audits(*items):
    return policy(auditAnnotations=list(items))


@pytest.mark.parametrize(
    ("resource", "body", "expected"),
    [
        (builtin.VALIDATINGADMISSIONPOLICIES, policy(), []),
        (builtin.VALIDATINGADMISSIONPOLICIES, policy(paramKind={"apiVersion": "a/b/c", "kind": "A b"}),
         ['spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c', None]),
        (builtin.VALIDATINGADMISSIONPOLICIES, policy(variables=[{"name": "in", "expression": "1"}]),
         ['spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier']),
        (builtin.VALIDATINGADMISSIONPOLICIES,
         policy(validations=[{**VALIDATION, "message": " ", "reason": "Unauthorized"}]),
         ['spec.validations[0].message: Invalid value: " ": must be non-empty if specified',
          'spec.validations[0].reason: Unsupported value: "Unauthorized": '
          'supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"']),
        (builtin.VALIDATINGADMISSIONPOLICIES,
         audits({"key": "k", "valueExpression": "'a'"}, {"key": "k", "valueExpression": "'a'"}),
         ['spec.auditAnnotations[1].key: Duplicate value: "k"']),
        (builtin.VALIDATINGADMISSIONPOLICIES, audits({"key": "k", "valueExpression": "'" + "a" * 5200 + "'"}),
         ["spec.auditAnnotations[0].valueExpression: Required value: must not exceed 5120 bytes in length"]),
        (builtin.VALIDATINGADMISSIONPOLICIES,
         policy(matchConstraints={"resourceRules": [{**RULE, "resourceNames": ["a", "a", "b/c"]}]}),
         ['spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: "a"',
          "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value: \"b/c\": may not contain '/'"]),
        (builtin.MUTATINGADMISSIONPOLICIES, mutating(), []),
        (builtin.MUTATINGADMISSIONPOLICIES, mutating("DELETE"),
         ['spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": '
          'supported values: "*", "CONNECT", "CREATE", "UPDATE"']),
        (builtin.MUTATINGADMISSIONPOLICIES, mutating(jsonPatch=None, applyConfiguration={"expression": "Object{}"}),
         ["spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
          'spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": '
          "must not be specified when patchType is JSONPatch"]),
        (builtin.VALIDATINGADMISSIONPOLICYBINDINGS,
         {"spec": {"policyName": "p", "validationActions": ["Audit", "Audit", "Shout"],
                   "paramRef": {"name": "n", "selector": {}, "parameterNotFoundAction": "Deny"}}},
         ["spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
          "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
          'spec.validationActions[1]: Duplicate value: "Audit"',
          'spec.validationActions[2]: Unsupported value: "Shout": supported values: "Audit", "Deny", "Warn"']),
        (builtin.VALIDATINGADMISSIONPOLICYBINDINGS, {"spec": {"policyName": "p"}},
         ["spec.validationActions: Required value: at least one validation action is required"]),
        (builtin.STORAGECLASSES, {"provisioner": "A B", "volumeBindingMode": ""},
         [None, 'volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer"']),
        (builtin.STORAGECLASSES,
         {"provisioner": "p",
          "allowedTopologies": [{"matchLabelExpressions": [{"key": "a", "values": ["b", "b"]}]}] * 2},
         ['allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "b"',
          'allowedTopologies[1].matchLabelExpressions[0].values[1]: Duplicate value: "b"',
          'allowedTopologies[1].matchLabelExpressions: Duplicate value: ""']),
        (builtin.VOLUMEATTRIBUTESCLASSES, {"driverName": "d"},
         ["parameters: Required value: must contain at least one key/value pair"]),
        (builtin.VOLUMEATTACHMENTS, {"spec": {"attacher": "d", "nodeName": "n", "source": {"inlineVolumeSpec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "s", "nfs": {"server": "s", "path": "/"}}}}},
         ["spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
          "spec.source.inlineVolumeSpec.storageClassName: Forbidden: "
          "may not be specified in the context of inline volumes"]),
        (builtin.CSINODES, {"spec": {"drivers": [{"name": "d", "nodeID": "n" * 257, "topologyKeys": ["a", "a"]}]}},
         [f'spec.drivers[0].nodeID: Invalid value: "{"n" * 257}": must be 256 characters or less',
          'spec.drivers[0]: Duplicate value: "a"']),
        (builtin.CSIDRIVERS, {"spec": {"fsGroupPolicy": "", "nodeAllocatableUpdatePeriodSeconds": 9,
                                       "serviceAccountTokenInSecrets": False}},
         ['spec.fsGroupPolicy: Unsupported value: "": supported values: "File", "None", "ReadWriteOnceWithFSType"',
          "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
          "spec.serviceAccountTokenInSecrets: Invalid value: false: "
          "serviceAccountTokenInSecrets is set but no tokenRequests are specified"]),
    ],
)  # fmt: skip
def test_creation(resource, body, expected):
    found = refused(resource, body)
    assert len(found) == len(expected), found
    for text, wanted in zip(found, expected, strict=True):
        assert wanted is None or text == wanted


def drivers(**fields):
    return {"spec": {"drivers": [{"name": "d", "nodeID": "n", **fields}]}}


@pytest.mark.parametrize(
    ("resource", "body", "change", "expected"),
    [
        (builtin.CSINODES, drivers(), lambda obj: obj.update(drivers(allocatable={"count": 3})), []),
        (builtin.CSINODES, drivers(), lambda obj: obj.update(drivers(nodeID="m")),
         ['spec.drivers: Invalid value: {"name":"d","nodeID":"m"}: field is immutable']),
        (builtin.CSIDRIVERS, {"spec": {}}, lambda obj: obj["spec"].update(attachRequired=False),
         ["spec.attachedRequired: Invalid value: false: field is immutable"]),
        (builtin.VALIDATINGWEBHOOKCONFIGURATIONS, hook(matchConditions=[{"name": "a", "expression": "nonsense("}]),
         lambda obj: obj["webhooks"][0].update(timeoutSeconds=3), []),
    ],
)  # fmt: skip
def test_changes(resource, body, change, expected):
    assert changed(resource, body, change) == expected


def test_status_of_a_policy_has_sound_conditions():
    def judge(obj):
        obj["status"] = {"conditions": [{"type": "A", "status": "Maybe", "reason": "no reason"}]}

    assert changed(builtin.VALIDATINGADMISSIONPOLICIES, policy(), judge, "status") == [
        'status.conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"',
        "status.conditions[0].lastTransitionTime: Required value: must be set",
        'status.conditions[0].reason: Invalid value: "no reason": a condition reason must start with alphabetic '
        "character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an "
        "alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or "
        "'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    ]
