"""Admission policies as upstream's documentation shows them, with real kubectl."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.server.api import Api
from tests.support.kubectl import Kubectl, eventually

_GROUP = "/apis/admissionregistration.k8s.io/v1"
_DEPLOYMENTS = {
    "operations": ["CREATE", "UPDATE"],
    "apiGroups": ["apps"],
    "apiVersions": ["v1"],
    "resources": ["deployments"],
}
_CONFIGMAPS = {
    "operations": ["CREATE", "UPDATE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["configmaps"],
}
_PODS = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}

Policies = Callable[..., str]


@pytest.fixture
def policies(kubectl: Kubectl) -> Any:
    """Makes a policy and one binding, limited to the test's namespace; takes them away afterwards."""
    made: list[tuple[str, str]] = []

    def make(sort: str, rule: dict[str, Any], spec: dict[str, Any], binding: dict[str, Any] | None = None) -> str:
        name = f"{kubectl.namespace}-{len(made)}.example.com"
        only = {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{sort}AdmissionPolicy",
            "metadata": {"name": name},
            "spec": {"matchConstraints": {"resourceRules": [rule], "namespaceSelector": only}, **spec},
        }
        actions = {"validationActions": ["Deny"]} if sort == "Validating" else {}
        bound = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{sort}AdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, **actions, **(binding or {})},
        }
        for obj in (policy, bound):
            done = kubectl.try_("create", "-f", "-", stdin=json.dumps(obj))
            assert done.code == 0, done.err
            assert "Warning" not in done.err
            made.append((str(obj["kind"]), name))
        return name

    yield make
    for kind, name in made:
        kubectl("delete", kind, name)


def _deployment(name: str, replicas: int, image: str = "nginx:1") -> str:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
        }
    )


def test_replica_limit(kubectl: Kubectl, policies: Policies) -> None:
    name = policies("Validating", _DEPLOYMENTS, {"validations": [{"expression": "object.spec.replicas <= 5"}]})
    refused = kubectl.try_("create", "-f", "-", stdin=_deployment("web", 6))
    assert refused.code == 1
    assert (
        f"The deployments \"web\" is invalid: : ValidatingAdmissionPolicy '{name}' with binding '{name}' "
        "denied request: failed expression: object.spec.replicas <= 5"
    ) in refused.err
    kubectl("create", "-f", "-", stdin=_deployment("web", 5))
    refused = kubectl.try_("scale", "deployment", "web", "--replicas=7")
    # The rule names deployments, not deployments/scale.
    assert refused.code == 0
    refused = kubectl.try_("set", "image", "deployment/web", "main=nginx:2")
    assert refused.code == 1
    assert "denied request" in refused.err


def test_params_of_a_config_map(kubectl: Kubectl, policies: Policies) -> None:
    policies(
        "Validating",
        _DEPLOYMENTS,
        {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "most", "expression": "int(params.data.maxReplicas)"}],
            "validations": [
                {
                    "expression": "object.spec.replicas <= variables.most",
                    "messageExpression": "'object.spec.replicas must be no greater than %d'.format([variables.most])",
                    "reason": "Forbidden",
                }
            ],
        },
        {"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}},
    )
    refused = kubectl.try_("create", "-f", "-", stdin=_deployment("web", 1))
    assert (
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        in refused.err
    )
    kubectl("create", "configmap", "limits", "--from-literal=maxReplicas=3")
    refused = kubectl.try_("create", "-f", "-", stdin=_deployment("web", 4))
    assert refused.err.startswith("Error from server (Forbidden):")
    assert refused.err.strip().endswith("denied request: object.spec.replicas must be no greater than 3")
    kubectl("create", "-f", "-", stdin=_deployment("web", 3))


def test_image_registry_by_environment(kubectl: Kubectl, policies: Policies) -> None:
    kubectl("label", "namespace", kubectl.namespace, "environment=staging")
    policies(
        "Validating",
        _DEPLOYMENTS,
        {
            "variables": [
                {
                    "name": "environment",
                    "expression": "'environment' in namespaceObject.metadata.labels "
                    "? namespaceObject.metadata.labels['environment'] : 'prod'",
                },
                {
                    "name": "exempt",
                    "expression": "has(object.metadata.labels) && 'exempt' in object.metadata.labels",
                },
                {"name": "containers", "expression": "object.spec.template.spec.containers"},
            ],
            "validations": [
                {
                    "expression": "variables.exempt || variables.containers.all(c, "
                    "c.image.startsWith(variables.environment + '.example.com/'))",
                    "messageExpression": "'only ' + variables.environment + ' images are allowed in namespace ' + "
                    "namespaceObject.metadata.name",
                }
            ],
        },
    )
    refused = kubectl.try_("create", "-f", "-", stdin=_deployment("web", 1, "example.com/nginx"))
    assert f"only staging images are allowed in namespace {kubectl.namespace}" in refused.err
    kubectl("create", "-f", "-", stdin=_deployment("web", 1, "staging.example.com/nginx"))


def test_warn_and_audit_let_pass(kubectl: Kubectl, policies: Policies) -> None:
    name = policies(
        "Validating",
        _CONFIGMAPS,
        {
            "matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('x')"}],
            "validations": [{"expression": "has(object.data)", "message": "data is wanted"}],
            "auditAnnotations": [{"key": "who", "valueExpression": "'by ' + request.userInfo.username"}],
        },
        {"validationActions": ["Warn", "Audit"]},
    )
    done = kubectl.try_("create", "configmap", "x1")
    assert done.code == 0
    assert (
        f"Warning: Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{name}': data is wanted"
    ) in done.err
    assert "Warning" not in kubectl.try_("create", "configmap", "y1").err


def test_authorizer(kubectl: Kubectl, policies: Policies) -> None:
    policies(
        "Validating",
        _CONFIGMAPS,
        {
            "validations": [
                {
                    "expression": "authorizer.group('').resource('secrets').namespace(request.namespace)"
                    ".check('get').allowed() && authorizer.requestResource.check('delete').allowed()",
                    "message": "those who may read secrets only",
                    "reason": "Forbidden",
                }
            ]
        },
    )
    kubectl("create", "role", "writer", "--verb=create,get", "--resource=configmaps")
    kubectl("create", "rolebinding", "writer", "--role=writer", "--user=jane")
    refused = kubectl.try_("create", "configmap", "a", "--as=jane")
    assert refused.code == 1
    assert "those who may read secrets only" in refused.err
    kubectl("create", "configmap", "a")


def test_broken_expression_follows_the_failure_policy(kubectl: Kubectl, policies: Policies) -> None:
    spec: dict[str, Any] = {"validations": [{"expression": "object.data.missing == 'x'"}]}
    policies("Validating", _CONFIGMAPS, {**spec, "failurePolicy": "Ignore"})
    kubectl("create", "configmap", "a", "--from-literal=b=c")
    policies("Validating", _CONFIGMAPS, spec)
    refused = kubectl.try_("create", "configmap", "b", "--from-literal=b=c")
    assert "expression 'object.data.missing == 'x'' resulted in error: no such key: missing" in refused.err


def test_a_dear_expression_is_stopped(kubectl: Kubectl, policies: Policies) -> None:
    long = "object.data.text.split('')"
    policies(
        "Validating",
        _CONFIGMAPS,
        {"validations": [{"expression": f"{long}.all(a, {long}.all(b, {long}.all(c, a != b + c + 'z')))"}]},
    )
    refused = kubectl.try_("create", "configmap", "a", f"--from-literal=text={'x' * 2000}")
    assert refused.code == 1
    assert "actual cost limit exceeded" in refused.err or "out of cost budget" in refused.err


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("object.spec.replicas <=", "Syntax error: mismatched input '<EOF>'"),
        ("objekt.spec.replicas <= 5", "undeclared reference to 'objekt' (in container '')"),
        ("request.operatoin == 'CREATE'", "undefined field 'operatoin'"),
        ("1 + 'a' == 2", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("object.spec.replicas + 1", "must evaluate to bool"),
        ("variables.x", "undefined field 'x'"),
        ("params.x", "undeclared reference to 'params' (in container '')"),
    ],
)
async def test_compile_errors_are_refused(api: Api, expression: str, text: str) -> None:
    policy = {
        "metadata": {"name": "wrong.example.com"},
        "spec": {"matchConstraints": {"resourceRules": [_PODS]}, "validations": [{"expression": expression}]},
    }
    made = await api.post(f"{_GROUP}/validatingadmissionpolicies", policy)
    assert made.status == 422
    (cause,) = made.json["details"]["causes"]
    assert cause["field"] == "spec.validations[0].expression"
    assert text in cause["message"]


async def test_policies_judge_neither_policies_nor_reviews(api: Api) -> None:
    groups = ["admissionregistration.k8s.io", "authentication.k8s.io", "authorization.k8s.io"]
    rule = {"operations": ["*"], "apiGroups": groups, "apiVersions": ["*"], "resources": ["*"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}
    path, bindings = f"{_GROUP}/validatingadmissionpolicies", f"{_GROUP}/validatingadmissionpolicybindings"
    made = await api.post(path, {"metadata": {"name": "lock.example.com"}, "spec": spec})
    assert made.status == 201, made.raw
    bound = {"policyName": "lock.example.com", "validationActions": ["Deny"]}
    assert (await api.post(bindings, {"metadata": {"name": "lock"}, "spec": bound})).status == 201
    whoami = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    assert (await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", whoami)).status == 201
    asked = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": asked}
    assert (await api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)).status == 201
    assert (await api.delete(f"{bindings}/lock")).status == 200
    assert (await api.delete(f"{path}/lock.example.com")).status == 200


def test_a_sidecar_is_added(kubectl: Kubectl, policies: Policies) -> None:
    policies(
        "Mutating",
        _PODS,
        {
            "reinvocationPolicy": "IfNeeded",
            "failurePolicy": "Fail",
            "matchConditions": [
                {
                    "name": "no-sidecar-yet",
                    "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'mesh-proxy')",
                }
            ],
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {
                        "expression": "Object{metadata: Object.metadata{labels: {'mesh': 'on'}}, "
                        "spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh-proxy', "
                        "image: 'mesh/proxy:v1.0.0', restartPolicy: 'Always'}]}}"
                    },
                }
            ],
        },
    )
    kubectl("run", "web", "--image=nginx:1", "--labels=app=web")
    pod = kubectl.json("get", "pod", "web")
    assert pod["metadata"]["labels"] == {"app": "web", "mesh": "on"}
    assert [one["name"] for one in pod["spec"]["containers"]] == ["web"]
    (sidecar,) = pod["spec"]["initContainers"]
    assert sidecar["image"] == "mesh/proxy:v1.0.0"
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["imagePullPolicy"] == "IfNotPresent"  # defaults apply to what a policy adds


def test_json_patch(kubectl: Kubectl, policies: Policies) -> None:
    policies(
        "Mutating",
        _CONFIGMAPS,
        {
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {
                        # In one patch: labels without any are not encoded, so a second one would not find them.
                        "expression": "[JSONPatch{op: 'test', path: '/data/a', value: 'b'}] + "
                        "(has(object.metadata.labels) ? [] : "
                        "[JSONPatch{op: 'add', path: '/metadata/labels', value: {}}]) + "
                        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/env'), "
                        "value: 'test'}]"
                    },
                },
            ],
        },
    )
    kubectl("create", "configmap", "one", "--from-literal=a=b")
    assert kubectl.json("get", "configmap", "one")["metadata"]["labels"] == {"example.com/env": "test"}
    kubectl("create", "configmap", "two", "--from-literal=a=c")
    assert "labels" not in kubectl.json("get", "configmap", "two")["metadata"], "its test says no: nothing is applied"
    refused = kubectl.try_("create", "configmap", "three")
    assert refused.code == 1
    assert (
        "denied request: JSON Patch: test operation does not apply: is missing path: /data/a: missing value"
        in refused.err
    )


def test_atomic_lists_are_not_for_apply_configurations(kubectl: Kubectl, policies: Policies) -> None:
    policies(
        "Mutating",
        _PODS,
        {
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {
                        "expression": "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'web', "
                        "command: ['sh']}]}}"
                    },
                }
            ],
        },
    )
    refused = kubectl.try_("run", "web", "--image=nginx:1")
    assert "may not mutate atomic arrays, maps or structs: .spec.containers[0].command" in refused.err


def _definition(group: str) -> str:
    spec = {
        "type": "object",
        "properties": {"maxReplicas": {"type": "integer"}, "minReplicas": {"type": "integer"}},
        "x-kubernetes-validations": [
            {"rule": "self.minReplicas <= self.maxReplicas", "message": "minReplicas must not exceed maxReplicas"},
            {"rule": "self.maxReplicas >= oldSelf.maxReplicas", "fieldPath": ".maxReplicas"},
        ],
    }
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"replicalimits.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": "replicalimits", "singular": "replicalimit", "kind": "ReplicaLimit"},
                "versions": [version],
            },
        }
    )


def _limit(group: str, least: int, most: int) -> str:
    spec = {"minReplicas": least, "maxReplicas": most}
    metadata = {"name": "limit"}
    return json.dumps({"apiVersion": f"{group}/v1", "kind": "ReplicaLimit", "metadata": metadata, "spec": spec})


def test_params_of_a_custom_kind_with_rules_of_its_own(kubectl: Kubectl, policies: Policies) -> None:
    group = f"{kubectl.namespace}.rules.example.com"
    kubectl("create", "-f", "-", stdin=_definition(group))
    name = f"replicalimits.{group}"
    try:
        kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=120s")
        refused = eventually(lambda: _refused(kubectl, "create", _limit(group, 4, 3)))
        assert 'spec: Invalid value: "object": minReplicas must not exceed maxReplicas' in refused
        kubectl("create", "-f", "-", stdin=_limit(group, 1, 3))
        assert "spec.maxReplicas: Invalid value: " in (_refused(kubectl, "replace", _limit(group, 1, 2)) or "")
        policies(
            "Validating",
            _DEPLOYMENTS,
            {
                "paramKind": {"apiVersion": f"{group}/v1", "kind": "ReplicaLimit"},
                "validations": [{"expression": "object.spec.replicas <= params.spec.maxReplicas"}],
            },
            {"paramRef": {"name": "limit", "parameterNotFoundAction": "Deny"}},
        )
        assert "failed expression: object.spec.replicas <= params.spec.maxReplicas" in (
            _refused(kubectl, "create", _deployment("web", 4)) or ""
        )
        kubectl("replace", "-f", "-", stdin=_limit(group, 1, 4))
        kubectl("create", "-f", "-", stdin=_deployment("web", 4))
    finally:
        kubectl("delete", "crd", name, "--wait=false")


def _refused(kubectl: Kubectl, verb: str, manifest: str) -> str | None:
    """What kubectl says to a refusal for an invalid object; None when it is refused for something else."""
    done = kubectl.try_(verb, "-f", "-", stdin=manifest)
    return done.err if done.code and "invalid" in done.err else None
