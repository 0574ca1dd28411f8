"""AuthorizationConfiguration: what it means, and what it is refused for, by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orca.auth.authorization_config import ConfigInvalid, parse_config


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "hook.kubeconfig"
    path.write_text("{}")
    return str(path)


def webhook(kubeconfig: str, **changes: Any) -> dict[str, Any]:
    settings = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": kubeconfig},
        **changes,
    }
    return {"type": "Webhook", "name": "hook", "webhook": {k: v for k, v in settings.items() if v is not None}}


def config(*authorizers: Any, **changes: Any) -> str:
    whole = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": list(authorizers),
        **changes,
    }
    return yaml.safe_dump(whole)


NODE, RBAC = {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1", "v1"])
def test_order_and_defaults(kubeconfig: str, version: str) -> None:
    other = {**webhook(kubeconfig, timeout="500ms", failurePolicy="NoOpinion"), "name": "other.example"}
    found = parse_config(
        config(NODE, webhook(kubeconfig), RBAC, other, apiVersion=f"apiserver.config.k8s.io/{version}"), ["RBAC"]
    )
    assert [(one.kind, one.name) for one in found.authorizers] == [
        ("Node", "node"),
        ("Webhook", "hook"),
        ("RBAC", "rbac"),
        ("Webhook", "other.example"),
    ]
    settings = found.authorizers[1].webhook
    assert settings is not None
    assert (settings.timeout, settings.allowed_ttl, settings.refused_ttl) == (3.0, 300.0, 30.0)
    assert settings.deny_on_failure
    assert found.local_kinds == {"Node", "RBAC"}


def test_answers_that_are_not_to_be_kept(kubeconfig: str) -> None:
    one = webhook(kubeconfig, authorizedTTL="1m", cacheUnauthorizedRequests=False)
    settings = parse_config(config(one)).authorizers[0].webhook
    assert settings is not None
    assert (settings.allowed_ttl, settings.refused_ttl) == (60.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"timeout": None}, "authorizers[0].timeout: Required value"),
        ({"timeout": "31s"}, 'authorizers[0].timeout: Invalid value: "31s": must be > 0s and <= 30s'),
        ({"timeout": "-1s"}, 'authorizers[0].timeout: Invalid value: "-1s": must be > 0s and <= 30s'),
        ({"authorizedTTL": "-1s"}, 'authorizers[0].authorizedTTL: Invalid value: "-1s": must be > 0s'),
        ({"subjectAccessReviewVersion": None}, "authorizers[0].subjectAccessReviewVersion: Required value"),
        (
            {"subjectAccessReviewVersion": "v2"},
            'authorizers[0].subjectAccessReviewVersion: Unsupported value: "v2": supported values: "v1", "v1beta1"',
        ),
        ({"failurePolicy": None}, "authorizers[0].failurePolicy: Required value"),
        (
            {"failurePolicy": "Ignore"},
            'authorizers[0].failurePolicy: Unsupported value: "Ignore": supported values: "NoOpinion", "Deny"',
        ),
        ({"connectionInfo": None}, "authorizers[0].connectionInfo.type: Required value"),
        (
            {"connectionInfo": {"type": "InClusterConfig"}},
            'authorizers[0].connectionInfo.type: Invalid value: "InClusterConfig": is not allowed for kube-apiserver',
        ),
        (
            {"connectionInfo": {"type": "KubeConfigFile"}},
            "authorizers[0].connectionInfo.kubeConfigFile: Required value",
        ),
        (
            {"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "hook"}},
            'authorizers[0].connectionInfo.kubeConfigFile: Invalid value: "hook": must be an absolute path',
        ),
        (
            {"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/"}},
            'authorizers[0].connectionInfo.kubeConfigFile: Invalid value: "/": must be a regular file',
        ),
        (
            {"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/no/file"}},
            'authorizers[0].connectionInfo.kubeConfigFile: Invalid value: "/no/file": error loading file: '
            "stat /no/file: no such file or directory",
        ),
        (
            {"matchConditions": [{"expression": "true"}]},
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: "
            "required if match conditions are specified",
        ),
        (
            {"matchConditionSubjectAccessReviewVersion": "v1beta1"},
            'authorizers[0].matchConditionSubjectAccessReviewVersion: Unsupported value: "v1beta1": '
            'supported values: "v1"',
        ),
        (
            {"timeout": "31s", "failurePolicy": None},
            '[authorizers[0].timeout: Invalid value: "31s": must be > 0s and <= 30s, '
            "authorizers[0].failurePolicy: Required value]",
        ),
        (
            {"retries": 3},
            "failed to load AuthorizationConfiguration from file: strict decoding error: "
            'unknown field "authorizers[0].webhook.retries"',
        ),
        (
            {"timeout": 3},
            "failed to load AuthorizationConfiguration from file: strict decoding error: json: cannot unmarshal "
            'number into Go struct field "authorizers[0].webhook.timeout" of type string',
        ),
    ],
)
def test_a_webhook_is_refused(kubeconfig: str, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(config(webhook(kubeconfig, **changes)))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("expressions", "texts"),
    [
        ([""], ["authorizers[0].matchConditions[0].expression: Required value"]),
        (["true", "true"], ['authorizers[0].matchConditions[1].expression: Duplicate value: "true"']),
        (
            ["request.user"],
            [
                'authorizers[0].matchConditions[0].expression: Invalid value: "request.user": '
                "must evaluate to bool but got string"
            ],
        ),
        (
            ["request.nobody == 'x'"],
            ["matchConditions[0].expression: Invalid value", "compilation failed: ", "undefined field 'nobody'"],
        ),
        (["object.x"], ["undeclared reference to 'object'"]),
        ([f"request.user != '{i}'" for i in range(65)], ["authorizers[0].matchConditions: Too many: 65"]),
    ],
)
def test_a_condition_is_refused(kubeconfig: str, expressions: list[str], texts: list[str]) -> None:
    conditions = [{"expression": expression} for expression in expressions]
    one = webhook(kubeconfig, matchConditions=conditions, matchConditionSubjectAccessReviewVersion="v1")
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(config(one))
    assert all(text in str(caught.value) for text in texts), caught.value


@pytest.mark.parametrize(
    ("authorizers", "text"),
    [
        ([], "authorizers: Required value: at least one authorization mode must be defined"),
        ([{"name": "x"}], "authorizers[0].type: Required value"),
        (
            [{"type": "ABAC", "name": "abac"}],
            'authorizers[0].type: Unsupported value: "ABAC": supported values: '
            '"AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"',
        ),
        ([RBAC, RBAC], 'authorizers[1].type: Duplicate value: "RBAC"'),
        ([{"type": "RBAC"}], "authorizers[0].name: Required value"),
        ([NODE, {"type": "RBAC", "name": "node"}], 'authorizers[1].name: Duplicate value: "node"'),
        ([{"type": "Webhook", "name": "hook"}], "authorizers[0].webhook: Required value: required when type=Webhook"),
        (
            [{**RBAC, "webhook": {}}],
            'authorizers[0].webhook: Invalid value: "non-null": may only be specified when type=Webhook',
        ),
        ([NODE, {"type": "RBAC", "name": "mine"}], "expected name rbac for authorizer RBAC instead of mine"),
        ([RBAC], "missing required types: [Node]"),
    ],
)
def test_authorizers_are_refused(authorizers: list[Any], text: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(config(*authorizers), ["Node"])
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty config data"),
        ("- a", "cannot unmarshal"),
        ("kind: AuthorizationConfiguration", "Object 'ApiVersion' is missing"),
        (config(RBAC, apiVersion="apiserver.config.k8s.io/v2"), "no kind"),
        (config(RBAC, kind="AuthenticationConfiguration"), "no kind"),
        (config(RBAC, more=1), 'unknown field "more"'),
        (config(RBAC) + "kind: X\n", 'key "kind" already set in map'),
        ("a: [", "error converting YAML to JSON"),
    ],
)
def test_what_is_no_configuration(text: str, why: str) -> None:
    with pytest.raises(ConfigInvalid, match="failed to load AuthorizationConfiguration from file: ") as caught:
        parse_config(text)
    assert why in str(caught.value)
