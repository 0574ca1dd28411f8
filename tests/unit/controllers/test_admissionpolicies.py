"""Type checking of policies: warnings by kind, once a generation."""

import asyncio
from typing import Any

from orca.api.builtin import BUILTIN, CUSTOMRESOURCEDEFINITIONS, VALIDATINGADMISSIONPOLICIES
from orca.api.cel.typechecking import Kinds, kinds_to_check, warnings
from orca.api.objects import Obj
from orca.controllers.admissionpolicies import ValidatingAdmissionPolicyStatusController
from tests.support.patience import PATIENCE
from tests.unit.controllers.support import Cluster, running_one

_KINDS = Kinds(BUILTIN)


def rule(**fields: Any) -> Obj:
    known = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}
    return {**known, **fields}


def spec(*expressions: str, **fields: Any) -> Obj:
    return {
        "matchConstraints": {"resourceRules": [rule()]},
        "validations": [{"expression": expression} for expression in expressions],
        **fields,
    }


def test_fields_that_are_not_there() -> None:
    assert warnings(spec("object.spec.replicas > 1", "object.replicas > 1"), _KINDS) == [
        {
            "fieldRef": "spec.validations[1].expression",
            "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
            " | object.replicas > 1\n | ......^\n",
        }
    ]


def test_variables_parameters_and_deep_fields_are_typed() -> None:
    told = spec(
        "variables.containers.all(c, c.image != '' && c.resources.limits['cpu'] != '1')",
        "object.metadata.creationTimestamp < timestamp(0) || object.spec.strategy.rollingUpdate.maxSurge == '25%'",
        "params.data.most == 5",
        variables=[{"name": "containers", "expression": "object.spec.template.spec.containers"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    (only,) = warnings(told, _KINDS)
    assert only["fieldRef"] == "spec.validations[2].expression"
    assert "applied to '(string, int)'" in only["warning"]


def test_wildcards_are_not_checked_and_ten_kinds_at_most() -> None:
    anything = {"matchConstraints": {"resourceRules": [rule(apiGroups=["*"]), rule(resources=["*"])]}}
    assert kinds_to_check(anything, _KINDS) == []
    many = [row.plural for row in BUILTIN if row.group == "" and not row.virtual]
    core = {"matchConstraints": {"resourceRules": [rule(apiGroups=[""], resources=many)]}}
    assert len(kinds_to_check(core, _KINDS)) == 10


async def checked(cluster: Cluster, generation: int) -> Obj:
    """The status, once it is about a generation. Checks run in a real thread, of which virtual time knows nothing."""
    async with asyncio.timeout(PATIENCE), cluster.api.watch(VALIDATINGADMISSIONPOLICIES) as events:
        async for event in events:
            status: Obj = event.obj.get("status") or {}
            if status.get("observedGeneration") == generation:
                return status
    raise AssertionError("the watch ended")


async def test_each_generation_is_checked_once() -> None:
    async with running_one(ValidatingAdmissionPolicyStatusController) as (cluster, _):
        policy = {"metadata": {"name": "p", "generation": 1}, "spec": spec("object.foo")}
        cluster.api.seed(VALIDATINGADMISSIONPOLICIES, policy)
        first = await checked(cluster, 1)
        assert "undefined field 'foo'" in first["typeChecking"]["expressionWarnings"][0]["warning"]
        change = {"metadata": {"generation": 2}, "spec": {"validations": [{"expression": "object.spec.replicas > 0"}]}}
        await cluster.api.patch(VALIDATINGADMISSIONPOLICIES, "p", change)
        assert await checked(cluster, 2) == {"observedGeneration": 2, "typeChecking": {}}


async def test_custom_kinds_are_known_by_their_definitions() -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    definition = {
        "metadata": {"name": "boxes.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "boxes", "kind": "Box"},
            "versions": [{"name": "v1", "served": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    told = spec(
        "object.spec.size > 1 && object.metadata.labels['a'] == 'b'", "object.spec.sise > 1", "params.spec.size == ''"
    )
    told["matchConstraints"] = {"resourceRules": [rule(apiGroups=["example.com"], resources=["boxes"])]}
    told["paramKind"] = {"apiVersion": "example.com/v1", "kind": "Box"}
    async with running_one(ValidatingAdmissionPolicyStatusController) as (cluster, _):
        cluster.api.seed(CUSTOMRESOURCEDEFINITIONS, definition)
        cluster.api.seed(VALIDATINGADMISSIONPOLICIES, {"metadata": {"name": "p", "generation": 1}, "spec": told})
        first, second = (await checked(cluster, 1))["typeChecking"]["expressionWarnings"]
        assert first["warning"].startswith("example.com/v1, Kind=Box: ERROR: <input>:1:12: undefined field 'sise'")
        assert "applied to '(int, string)'" in second["warning"]
