"""What webhooks mean, without calling any: rules, answers, rounds."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orca.admission.chain import Attributes, Chain
from orca.admission.matching import Rule, matching_row
from orca.admission.mutating import take_over
from orca.admission.webhooks import Calling, MutatingWebhooks, ValidatingWebhooks
from orca.admission.webhooks.review import BadAnswer, denial, read_answer
from orca.api.builtin import (
    BUILTIN,
    CONFIGMAPS,
    HORIZONTALPODAUTOSCALERS,
    HORIZONTALPODAUTOSCALERS_V1,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    PODS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.auth.identity import UserInfo
from orca.client.hooks import HookError
from tests.support.webhooks import Decide, denied, patched


def rule(**fields: Any) -> Rule:
    made = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    return Rule.parse(made | fields)


@pytest.mark.parametrize(
    ("fields", "operation", "row", "subresource", "expected"),
    [
        ({}, "CREATE", PODS, "", True),
        ({}, "UPDATE", PODS, "", False),
        ({}, "CREATE", PODS, "exec", False),
        ({"resources": ["pods/exec"]}, "CREATE", PODS, "exec", True),
        ({"resources": ["pods/*"]}, "CREATE", PODS, "exec", True),
        ({"resources": ["pods/*"]}, "CREATE", PODS, "", True),
        ({"resources": ["*"]}, "CREATE", PODS, "", True),
        ({"resources": ["*"]}, "CREATE", PODS, "status", False),
        ({"resources": ["*/status"]}, "CREATE", PODS, "status", True),
        ({"resources": ["*/*"], "operations": ["*"]}, "DELETE", PODS, "status", True),
        ({"apiGroups": ["apps"]}, "CREATE", PODS, "", False),
        ({"scope": "Cluster"}, "CREATE", PODS, "", False),
        ({"scope": "Namespaced"}, "CREATE", PODS, "", True),
        ({"scope": "Cluster", "resources": ["namespaces"]}, "CREATE", NAMESPACES, "", True),
        ({"scope": "Namespaced", "resources": ["namespaces"]}, "CREATE", NAMESPACES, "", False),
    ],
)
def test_rules(fields: Obj, operation: str, row: Resource, subresource: str, expected: bool) -> None:
    assert rule(**fields).matches(operation, row, subresource) is expected


def test_equivalent_rules_mean_other_versions_of_the_same_thing() -> None:
    rules = [rule(apiGroups=["autoscaling"], resources=["horizontalpodautoscalers"])]
    common: Any = {"table": BUILTIN}
    new = HORIZONTALPODAUTOSCALERS
    assert matching_row(rules, "CREATE", new, "", equivalent=True, **common) == HORIZONTALPODAUTOSCALERS_V1
    assert matching_row(rules, "CREATE", new, "", equivalent=False, **common) is None
    assert matching_row(rules, "CREATE", CONFIGMAPS, "", equivalent=True, **common) is None


def answer(version: str = "v1", **response: Any) -> Obj:
    return {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True, **response},
    }


@pytest.mark.parametrize(
    ("told", "mutating", "why"),
    [
        ([], True, "json: cannot unmarshal array"),
        ({"response": None}, True, "webhook response was absent"),
        (answer(uid="other"), True, 'expected response.uid="u", got "other"'),
        (answer() | {"kind": "Pod"}, True, "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview"),
        (answer(patch="W10="), True, "webhook returned response.patch but not response.patchType"),
        (answer(patchType="JSONPatch"), True, "webhook returned response.patchType but not response.patch"),
        (answer(patch="W10=", patchType="Merge"), True, 'invalid response.patchType of "Merge"'),
        (answer(patch="e30=", patchType="JSONPatch"), True, "json: cannot unmarshal object"),
        (answer(patch="W10=", patchType="JSONPatch"), False, "validating webhook may not return response.patch"),
        (answer(allowed="yes"), True, "json: cannot unmarshal"),
        (answer(warnings=[1]), True, "json: cannot unmarshal"),
    ],
)
def test_answers_that_are_none(told: Any, mutating: bool, why: str) -> None:
    with pytest.raises(BadAnswer, match=why.replace("(", r"\(")):
        read_answer(told, "v1", "u", mutating=mutating)


def test_v1beta1_is_less_strict() -> None:
    told = answer("v1beta1", uid="", patch="W10=")
    assert read_answer(told, "v1beta1", "u", mutating=True).allowed


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (None, 400, 'admission webhook "h" denied the request without explanation'),
        ({"code": 200, "status": "Success"}, 400, 'admission webhook "h" denied the request without explanation'),
        ({"reason": "Bad"}, 400, 'admission webhook "h" denied the request: Bad'),
        ({"code": 403, "message": "no"}, 403, 'admission webhook "h" denied the request: no'),
    ],
)
def test_denials(status: Obj | None, code: int, text: str) -> None:
    error = denial("h", status)
    assert (error.code, error.message) == (code, text)
    assert error.status()["status"] == "Failure"


class World:
    """Configurations in a cache, and hooks that answer at once. ``calls`` are (name, request)."""

    def __init__(self) -> None:
        self.configurations: dict[Resource, list[Obj]] = {}
        self.decide: dict[str, Decide] = {}
        self.failing: set[str] = set()
        self.calls: list[tuple[str, Obj]] = []
        self.change = 1

    def peek(self, resource: Resource, namespace: str, name: str, /) -> Obj | None:
        labels = {"kubernetes.io/metadata.name": name, "team": "a"}
        return {"metadata": {"name": name, "labels": labels}}

    def peek_list(
        self, resource: Resource, namespace: str = "", /, *, hint: tuple[str, str] | None = None
    ) -> list[Obj]:
        return self.configurations.get(resource, [])

    def last_change(self, resource: Resource, /) -> int:
        return self.change

    async def get(self, resource: Resource, namespace: str, name: str, /) -> Any:
        raise AssertionError("everything is in the cache")

    async def fresh(self) -> None:
        return None

    async def call(self, client_config: Obj, body: Any, timeout_seconds: float) -> Any:
        review = orjson.loads(body)
        name = client_config["url"]
        self.calls.append((name, review["request"]))
        if name in self.failing:
            raise HookError("it is gone")
        decided = self.decide[name](review["request"]) if name in self.decide else {}
        return answer(**{"uid": review["request"]["uid"]} | decided)

    def configure(self, kind: Resource, name: str, *hooks: Obj) -> None:
        self.configurations.setdefault(kind, []).append({"metadata": {"name": name}, "webhooks": list(hooks)})
        self.change += 1

    def chain(self, *plugins: Any) -> Chain:
        shared = Calling(self, self, BUILTIN.copy())
        return Chain([*plugins, MutatingWebhooks(shared), ValidatingWebhooks(shared)])


def hook(name: str, **fields: Any) -> Obj:
    rules = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]}]
    made = {
        "name": f"{name}.example.com",
        "clientConfig": {"url": name},
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return made | fields


def create(labels: Obj | None = None, *, dry_run: bool = False) -> Attributes:
    obj: Obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default", "labels": labels or {}},
        "data": {},
    }
    return Attributes("CREATE", CONFIGMAPS, "default", "c", obj, None, UserInfo("me"), dry_run=dry_run)


MUTATING, VALIDATING = MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS


async def test_without_configurations_nothing_happens() -> None:
    attrs = create()
    await World().chain().admit(attrs)
    assert attrs.reinvocation is None


async def test_configurations_are_called_in_the_order_of_their_names() -> None:
    world = World()
    world.configure(MUTATING, "b", hook("b1"), hook("b2"))
    world.configure(MUTATING, "a", hook("a1"))
    await world.chain().admit(create())
    assert [name for name, _ in world.calls] == ["a1", "b1", "b2"]


async def test_selectors_decide_on_namespaces_and_objects() -> None:
    world = World()
    world.configure(
        VALIDATING,
        "a",
        hook("ours", namespaceSelector={"matchLabels": {"team": "a"}}),
        hook("theirs", namespaceSelector={"matchLabels": {"team": "b"}}),
        hook("red", objectSelector={"matchLabels": {"color": "red"}}),
        hook("blue", objectSelector={"matchLabels": {"color": "blue"}}),
    )
    attrs = create({"color": "blue"})
    attrs.operation, attrs.old = "UPDATE", create({"color": "red"}).obj
    await world.chain().validate(attrs)
    assert {name for name, _ in world.calls} == {"ours", "red", "blue"}


async def test_a_change_by_another_plugin_makes_the_second_round_ask_again() -> None:
    """As a sidecar needs what ServiceAccount mounts, a hook needs to see what other plugins made of its change."""

    class Follows:
        async def admit(self, attrs: Attributes) -> None:
            assert attrs.obj is not None
            if "hooked" in attrs.obj["data"]:
                attrs.obj["data"]["followed"] = "yes"

    world = World()
    world.decide["h"] = lambda request: (
        {} if "hooked" in request["object"]["data"] else patched({"op": "add", "path": "/data/hooked", "value": "x"})
    )
    world.configure(MUTATING, "a", hook("h", reinvocationPolicy="IfNeeded"), hook("once"))
    attrs = create()
    await world.chain(Follows()).admit(attrs)
    assert attrs.obj is not None
    assert attrs.obj["data"] == {"hooked": "x", "followed": "yes"}
    assert [(name, "followed" in request["object"]["data"]) for name, request in world.calls] == [
        ("h", False),
        ("once", False),
        ("h", True),
    ]


async def test_dry_runs() -> None:
    world = World()
    world.configure(VALIDATING, "a", hook("some", sideEffects="Some"))
    with pytest.raises(ApiError) as raised:
        await world.chain().validate(create(dry_run=True))
    assert raised.value.code == 400
    assert raised.value.message == 'admission webhook "some.example.com" does not support dry run'
    await world.chain().validate(create())
    assert len(world.calls) == 1


async def test_failures_are_ignored_or_not() -> None:
    world = World()
    world.failing |= {"open", "closed"}
    world.configure(VALIDATING, "a", hook("open", failurePolicy="Ignore"))
    attrs = create()
    await world.chain().validate(attrs)
    key = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0"
    assert attrs.audit_annotations == {key: "open.example.com"}
    world.configure(VALIDATING, "b", hook("closed"))
    with pytest.raises(ApiError) as raised:
        await world.chain().validate(create())
    assert raised.value.message == (
        'Internal error occurred: failed calling webhook "closed.example.com": failed to call webhook: it is gone'
    )


async def test_all_validating_hooks_are_heard_and_the_first_denial_is_told() -> None:
    world = World()
    world.decide |= {"b": lambda _: denied("b says no"), "c": lambda _: denied("c says no")}
    world.configure(VALIDATING, "a", hook("a"), hook("b"), hook("c"))
    with pytest.raises(ApiError, match="b says no"):
        await world.chain().validate(create())
    assert len(world.calls) == 3


async def test_what_hooks_note_for_the_audit_log() -> None:
    world = World()
    world.decide["h"] = lambda _: patched(
        {"op": "add", "path": "/data", "value": {"x": "y"}},
        {"op": "add", "path": "/data/z", "value": "later"},
        auditAnnotations={"why": "because", "not a key!": "x"},
    )
    world.configure(MUTATING, "conf", hook("h"))
    attrs = create()
    await world.chain().admit(attrs)
    noted = attrs.audit_annotations
    assert noted["h.example.com/why"] == "because"
    mutation = orjson.loads(noted["mutation.webhook.admission.k8s.io/round_0_index_0"])
    assert mutation == {"configuration": "conf", "webhook": "h.example.com", "mutated": True}
    told = orjson.loads(noted["patch.webhook.admission.k8s.io/round_0_index_0"])
    assert told["patchType"] == "JSONPatch"
    assert told["patch"][0]["value"] == {"x": "y"}, "as the hook has sent it"
    assert len(noted) == 3


async def test_a_patch_of_what_cannot_be_changed_is_refused() -> None:
    world = World()
    world.decide["h"] = lambda _: patched({"op": "add", "path": "/data/x", "value": "y"})
    world.configure(MUTATING, "conf", hook("h"))
    attrs = create()
    attrs.operation, attrs.obj, attrs.old = "DELETE", None, attrs.obj
    with pytest.raises(ApiError, match="attempted to modify the object, which is not supported for this operation"):
        await world.chain().admit(attrs)


@pytest.mark.parametrize(
    ("operation", "became"),
    [({"op": "replace", "path": "/apiVersion", "value": "v9"}, "v9"), ({"op": "remove", "path": "/apiVersion"}, "")],
)
async def test_a_patch_that_makes_another_version_is_refused(operation: Obj, became: str) -> None:
    world = World()
    world.decide["h"] = lambda _: patched(operation)
    world.configure(MUTATING, "conf", hook("h"))
    text = f"the API version in the data \\({became}\\) does not match the expected API version \\(v1\\)"
    with pytest.raises(ApiError, match=text):
        await world.chain().admit(create())


async def test_true_in_place_of_1_is_a_change() -> None:
    row = Resource("example.com", "v1", "widgets", "widget", "Widget", True, "com.example.Widget", "/w", custom=True)
    before: Obj = {"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"values": {"enabled": 1}}}
    changed: Obj = before | {"spec": {"values": {"enabled": True}}}
    attrs = Attributes("CREATE", row, "default", "w", before, None, UserInfo("me"))

    async def convert(_from: Resource, _to: Resource, _obj: Obj) -> Obj:
        raise AssertionError("there is one version")

    assert not await take_over(attrs, row, before, dict(before), convert)
    assert await take_over(attrs, row, before, changed, convert)
    assert attrs.obj == changed


async def test_match_conditions() -> None:
    world = World()
    named = [{"name": "c", "expression": "object.metadata.name == 'c'"}]
    other = [{"name": "c", "expression": "object.metadata.name != 'c' || request.userInfo.username != 'me'"}]
    broken = [{"name": "c", "expression": "object.spec.nothing == 1"}]
    world.configure(
        VALIDATING,
        "a",
        hook("yes", matchConditions=named),
        hook("no", matchConditions=other),
        hook("false-wins", matchConditions=[*broken, *other]),
        hook("ignored", matchConditions=broken, failurePolicy="Ignore"),
    )
    await world.chain().validate(create())
    assert [name for name, _ in world.calls] == ["yes"]
    world.configure(VALIDATING, "b", hook("fails", matchConditions=broken))
    with pytest.raises(ApiError) as raised:
        await world.chain().validate(create())
    assert raised.value.code == 403
    assert "expression 'object.spec.nothing == 1' resulted in error: no such key: spec" in raised.value.message
