"""Which requests a policy meets: rules, selectors, parameters, actions; and how policies and their changes are seen."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.server.api import Answer, Api
from tests.support.beside import are_served_beside

_GROUP = "/apis/admissionregistration.k8s.io/v1"
_numbers = itertools.count(1)
_NO = {"validations": [{"expression": "false", "message": "no"}]}


class Policies:
    """Makes validating policies for one namespace, and takes them away."""

    def __init__(self, api: Api, space: str) -> None:
        self.api, self.space = api, space
        self._made: list[str] = []

    async def policy(self, match: dict[str, Any], spec: dict[str, Any] | None = None) -> str:
        name = f"p{next(_numbers)}.example.com"
        only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.space}}}
        body = {"metadata": {"name": name}, "spec": {"matchConstraints": {**only, **match}, **(spec or _NO)}}
        await self.make("validatingadmissionpolicies", body)
        return name

    async def binding(self, policy: str, **spec: Any) -> str:
        name = f"b{next(_numbers)}"
        body = {"metadata": {"name": name}, "spec": {"policyName": policy, "validationActions": ["Deny"], **spec}}
        await self.make("validatingadmissionpolicybindings", body)
        return name

    async def bound(self, match: dict[str, Any], spec: dict[str, Any] | None = None, **binding: Any) -> str:
        name = await self.policy(match, spec)
        await self.binding(name, **binding)
        return name

    async def make(self, plural: str, body: dict[str, Any]) -> None:
        made = await self.api.post(f"{_GROUP}/{plural}", body)
        assert made.status == 201, made.raw
        path = f"{_GROUP}/{plural}/{body['metadata']['name']}"
        self._made.append(path)
        await self.seen(path)

    async def seen(self, path: str) -> None:
        """Admission knows policies from the cache, which a read waits for."""
        assert (await self.api.get(path)).status == 200

    async def config_map(self, name: str = "", **fields: Any) -> Answer:
        metadata = {"name": name or f"c{next(_numbers)}", **fields.pop("metadata", {})}
        return await self.api.post(f"/api/v1/namespaces/{self.space}/configmaps", {"metadata": metadata, **fields})

    async def clear(self) -> None:
        for path in reversed(self._made):
            await self.api.delete(path)


@pytest.fixture
async def policies(api: Api, space: str) -> AsyncIterator[Policies]:
    made = Policies(api, space)
    yield made
    await made.clear()


def rule(**fields: Any) -> dict[str, Any]:
    known = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
    return {**known, **fields}


async def test_unbound_policies_do_nothing(policies: Policies) -> None:
    name = await policies.policy({"resourceRules": [rule()]})
    assert (await policies.config_map()).status == 201
    binding = await policies.binding(name)
    refused = await policies.config_map("x")
    code, reason, message = refused.failure
    assert (code, reason) == (422, "Invalid")
    assert message == (
        f"configmaps \"x\" is forbidden: ValidatingAdmissionPolicy '{name}' with binding '{binding}' denied request: no"
    )
    assert refused.json["details"]["causes"] == [{"message": message.partition(": ")[2]}]


@pytest.mark.parametrize(("reason", "code"), [("Forbidden", 403), ("RequestEntityTooLarge", 413), ("Invalid", 422)])
async def test_the_reason_gives_the_code(policies: Policies, reason: str, code: int) -> None:
    await policies.bound({"resourceRules": [rule()]}, {"validations": [{"expression": "false", "reason": reason}]})
    assert (await policies.config_map()).failure[:2] == (code, reason)


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ({"resourceRules": [rule(operations=["UPDATE"])]}, False),
        ({"resourceRules": [rule(operations=["UPDATE", "CREATE"])]}, True),
        ({"resourceRules": [rule(resources=["secrets"])]}, False),
        ({"resourceRules": [rule(resources=["*"])]}, True),
        ({"resourceRules": [rule(resources=["configmaps/status"])]}, False),
        ({"resourceRules": [rule(apiGroups=["apps"])]}, False),
        ({"resourceRules": [rule(scope="Cluster")]}, False),
        ({"resourceRules": [rule(scope="Namespaced")]}, True),
        ({"resourceRules": [rule(resourceNames=["other"])]}, False),
        ({"resourceRules": [rule(resourceNames=["other", "this"])]}, True),
        ({"resourceRules": [rule()], "excludeResourceRules": [rule(resourceNames=["this"])]}, False),
        ({"resourceRules": [rule()], "excludeResourceRules": [rule(operations=["DELETE"])]}, True),
        ({"resourceRules": [rule()], "objectSelector": {"matchLabels": {"a": "b"}}}, True),
        ({"resourceRules": [rule()], "objectSelector": {"matchLabels": {"a": "c"}}}, False),
        (
            {"resourceRules": [rule()], "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "no"}}},
            False,
        ),
    ],
)
async def test_match_constraints(policies: Policies, match: dict[str, Any], met: bool) -> None:
    await policies.bound(match)
    made = await policies.config_map("this", metadata={"labels": {"a": "b"}})
    assert made.status == (422 if met else 201), made.raw


async def test_equivalent_versions_are_converted(api: Api, policies: Policies) -> None:
    events = rule(apiGroups=["events.k8s.io"], resources=["events"])
    spec = {"validations": [{"expression": "object.apiVersion != 'events.k8s.io/v1'"}]}
    path = f"/api/v1/namespaces/{policies.space}/events"
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"namespace": policies.space, "kind": "Pod", "name": "p"},
        "reason": "Test",
    }
    await policies.bound({"resourceRules": [events], "matchPolicy": "Exact"}, spec)
    assert (await api.post(f"{path}?dryRun=All", event)).status == 201
    await policies.bound({"resourceRules": [events], "matchPolicy": "Equivalent"}, spec)
    assert (await api.post(f"{path}?dryRun=All", event)).status == 422


async def test_a_binding_narrows(policies: Policies) -> None:
    name = await policies.policy({"resourceRules": [rule()]})
    await policies.binding(name, matchResources={"objectSelector": {"matchLabels": {"strict": "yes"}}})
    assert (await policies.config_map()).status == 201
    assert (await policies.config_map(metadata={"labels": {"strict": "yes"}})).status == 422


async def test_delete_has_an_old_object_only(api: Api, policies: Policies) -> None:
    spec = {
        "validations": [
            {"expression": "object == null && oldObject.data.keep != 'yes' && request.operation == 'DELETE'"}
        ]
    }
    await policies.bound({"resourceRules": [rule(operations=["DELETE"])]}, spec)
    assert (await policies.config_map("kept", data={"keep": "yes"})).status == 201
    assert (await policies.config_map("gone", data={"keep": "no"})).status == 201
    path = f"/api/v1/namespaces/{policies.space}/configmaps"
    assert (await api.delete(f"{path}/kept")).status == 422
    assert (await api.delete(f"{path}/gone")).status == 200


async def test_params_by_selector_are_asked_one_by_one(api: Api, policies: Policies) -> None:
    spec = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [
            {"expression": "object.metadata.name != params.data.bad", "messageExpression": "'not ' + params.data.bad"}
        ],
    }
    selector = {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Allow"}
    await policies.bound({"resourceRules": [rule(resources=["secrets"])]}, spec, paramRef=selector)
    path = f"/api/v1/namespaces/{policies.space}/secrets?dryRun=All"
    assert (await api.post(path, {"metadata": {"name": "one"}})).status == 201  # nothing to be asked with
    for bad in ("one", "two"):
        made = await policies.config_map(metadata={"labels": {"limits": "yes"}}, data={"bad": bad})
        assert made.status == 201
    for bad in ("one", "two"):
        assert (await api.post(path, {"metadata": {"name": bad}})).failure[2].endswith(f"denied request: not {bad}")
    assert (await api.post(path, {"metadata": {"name": "three"}})).status == 201


async def test_a_param_kind_that_is_not_there(policies: Policies) -> None:
    spec = {**_NO, "paramKind": {"apiVersion": "example.com/v1", "kind": "Nothing"}}
    await policies.bound({"resourceRules": [rule()]}, spec, paramRef={"name": "x", "parameterNotFoundAction": "Allow"})
    assert (
        "failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Nothing'"
    ) in (await policies.config_map()).failure[2]


async def test_changes_take_effect(api: Api, policies: Policies) -> None:
    name = await policies.bound({"resourceRules": [rule()]})
    assert (await policies.config_map()).status == 422
    patch = {"spec": {"validations": [{"expression": "true"}]}}
    path = f"{_GROUP}/validatingadmissionpolicies/{name}"
    assert (await api.patch(path, patch)).status == 200
    await policies.seen(path)
    assert (await policies.config_map()).status == 201


async def test_others_are_served_while_an_expression_is_dear(api: Api, policies: Policies) -> None:
    words = "object.data.text.split('')"
    loops = f"{words}.all(a, {words}.all(b, a + b != 'y'))"
    await policies.bound({"resourceRules": [rule()]}, {"validations": [{"expression": loops}] * 3})

    async def quick() -> None:
        assert (await api.get("/api/v1/namespaces/default")).status == 200

    async def dear() -> None:
        assert "cost limit exceeded" in (await policies.config_map(data={"text": "x" * 5000})).failure[2]

    assert await are_served_beside(quick, dear)


@pytest.mark.parametrize(
    ("reinvocation", "labels"),
    [("Never", {"first": "1", "b": "1"}), ("IfNeeded", {"first": "1", "b": "1", "saw-b": "1"})],
)
async def test_mutations_run_again_when_others_changed_the_object(
    policies: Policies, reinvocation: str, labels: dict[str, str]
) -> None:
    """The first policy, by name, sees what the second one did only when it is invoked again."""

    async def mutate(name: str, label: str) -> None:
        apply = f"Object{{metadata: Object.metadata{{labels: {{{label}: '1'}}}}}}"
        spec = {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": policies.space}},
                "resourceRules": [rule()],
            },
            "reinvocationPolicy": reinvocation,
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}],
        }
        await policies.make("mutatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
        binding = {"metadata": {"name": name}, "spec": {"policyName": name}}
        await policies.make("mutatingadmissionpolicybindings", binding)

    seen = "has(object.metadata.labels) && 'b' in object.metadata.labels"
    await mutate(f"a-{policies.space}", f"({seen} ? 'saw-b' : 'first')")
    await mutate(f"z-{policies.space}", "'b'")
    made = await policies.config_map()
    assert made.status == 201, made.raw
    assert made.json["metadata"]["labels"] == labels
