"""FlowSchemas and priority levels: what upstream refuses, where, and in which words."""

import pytest

from orca.api import builtin
from orca.server.fairness.defaults import MANDATORY, SUGGESTED
from tests.unit.api.validation.objects import refused

ACCOUNT = {"kind": "ServiceAccount", "serviceAccount": {"name": "a", "namespace": "b"}}
READ = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"]}


def schema(subject=ACCOUNT, resource=READ, url=None, **spec):
    rule = {"subjects": [subject], "resourceRules": [resource]}
    if url is not None:
        rule = {"subjects": [subject], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": url}]}
    return {"spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [rule], **spec}}


def level(name="x", **spec):
    return {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}},
                                                 **spec}}  # fmt: skip


def queuing(**fields):
    return level(limited={"limitResponse": {"type": "Queue", "queuing": fields}})


RULE = "spec.rules[0]"
URL = f"{RULE}.nonResourceRules[0].nonResourceURLs"
QUEUES = "spec.limited.limitResponse.queuing"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (schema(), []),
        (schema({**ACCOUNT, "user": {"name": "u"}}),
         [f"{RULE}.subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'"]),
        (schema({"kind": "User"}),
         [f"{RULE}.subjects[0].user: Required value: user is required when subject kind is 'User'"]),
        (schema({"kind": "Robot"}),
         [f'{RULE}.subjects[0].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", '
          '"User"']),
        (schema({"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}),
         [f"{RULE}.subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account"]),
        (schema(resource={**READ, "verbs": ["head"]}),
         [f'{RULE}.resourceRules[0].verbs: Unsupported value: ["head"]: supported values: "create", "delete", '
          '"deletecollection", "get", "list", "patch", "proxy", "update", "watch"']),
        (schema(resource={**READ, "resources": ["*", "pods"], "namespaces": ["*", "a"]}),
         [f'{RULE}.resourceRules[0].resources: Invalid value: ["*","pods"]: '
          "if '*' is present, must not specify other resources",
          f'{RULE}.resourceRules[0].namespaces: Invalid value: ["*","a"]: '
          "if '*' is present, must not specify other namespaces"]),
        (schema(resource={**READ, "namespaces": []}),
         [f"{RULE}.resourceRules[0].namespaces: Required value: "
          "resource rules that are not cluster scoped must supply at least one namespace"]),
        (schema(url=["healthz", "/a b", "/a//b", "/a*", "/a/*", "/"]),
         [f'{URL}[0]: Invalid value: "healthz": must start with slash',
          f'{URL}[1]: Invalid value: "/a b": must not contain white-space',
          f'{URL}[2]: Invalid value: "/a//b": must not contain double slash',
          f'{URL}[3]: Invalid value: "/a*": wildcard can only do suffix matching']),
        (schema(matchingPrecedence=1),
         ["spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"]),
        (schema(distinguisherMethod={"type": "ByMood"}),
         ['spec.distinguisherMethod.type: Unsupported value: {"type":"ByMood"}: '
          'supported values: "ByNamespace", "ByUser"']),
    ],
)  # fmt: skip
def test_flow_schemas(body, expected):
    assert refused(builtin.FLOWSCHEMAS, body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (level(), []),
        (level(type=""), ["spec.type: Required value"]),
        (level(type="Exempt", limited=None),
         ["spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"]),
        (level("exempt", type="Exempt"),
         ["spec.limited: Forbidden: must be nil if the type is not Limited", None]),
        (level("catch-all"), [None]),
        (queuing(queues=1024, handSize=8),
         [f"{QUEUES}.handSize: Invalid value: 8: "
          "required entropy bits of deckSize 1024 and handSize 8 should not be greater than 60"]),
        (queuing(queues=10_000_001, handSize=1),
         [f"{QUEUES}.queues: Invalid value: 10000001: must not be greater than 10000000"]),
        (queuing(queues=2, handSize=3),
         [f"{QUEUES}.handSize: Invalid value: 3: should not be greater than queues (2)"]),
        (level(limited={"nominalConcurrencyShares": -1, "lendablePercent": 101, "borrowingLimitPercent": -1}),
         ["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
          "spec.limited.limitResponse.type: Required value",
          "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
          "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"]),
    ],
)  # fmt: skip
def test_priority_levels(body, expected):
    found = refused(builtin.PRIORITYLEVELCONFIGURATIONS, body)
    assert len(found) == len(expected)
    for text, wanted in zip(found, expected, strict=True):
        assert text == wanted if wanted else "must equal the fixed value" in text


@pytest.mark.parametrize(("resource", "obj"), [*MANDATORY, *SUGGESTED], ids=lambda v: str(v)[:40])
def test_what_every_cluster_has_is_sound(resource, obj):
    assert refused(resource, obj) == []
