"""What an authorization webhook is asked, when it is not asked at all, and what its answers mean."""

from __future__ import annotations

from typing import Any

import pytest

from orca.api.objects import Obj
from orca.api.selectors import parse_field_selector, parse_label_selector
from orca.auth import Action, UserInfo
from orca.auth.webhook.conditions import Conditions, Costly, Failed
from orca.auth.webhook.review import BadAnswer, body_of, decision_of, may_be_kept, spec_of, status_of

ANNA = UserInfo("anna", "7", ("crew", "system:authenticated"), {"acme.io/team": ("blue", "red")})
LIST = Action(
    "list",
    "apps",
    "deployments",
    namespace="shop",
    version="v1",
    fields=parse_field_selector("metadata.name=web,status.x!=y"),
    labels=parse_label_selector("app in (b,a),!old,tier=x,new,level>3,zone!=z"),
)


def test_a_resource() -> None:
    assert spec_of(ANNA, LIST) == {
        "resourceAttributes": {
            "namespace": "shop",
            "verb": "list",
            "group": "apps",
            "version": "v1",
            "resource": "deployments",
            "fieldSelector": {
                "requirements": [
                    {"key": "metadata.name", "operator": "In", "values": ["web"]},
                    {"key": "status.x", "operator": "NotIn", "values": ["y"]},
                ]
            },
            "labelSelector": {
                "requirements": [
                    {"key": "app", "operator": "In", "values": ["a", "b"]},
                    {"key": "new", "operator": "Exists"},
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "tier", "operator": "In", "values": ["x"]},
                    {"key": "zone", "operator": "NotIn", "values": ["z"]},
                ]
            },
        },
        "user": "anna",
        "groups": ["crew", "system:authenticated"],
        "extra": {"acme.io/team": ["blue", "red"]},
        "uid": "7",
    }


def test_a_path_and_versions() -> None:
    spec = spec_of(ANNA, Action("get", path="/metrics"))
    assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
    assert "resourceAttributes" not in spec
    assert body_of(spec, "v1")["apiVersion"] == "authorization.k8s.io/v1"
    old = body_of(spec, "v1beta1")
    assert old["apiVersion"] == "authorization.k8s.io/v1beta1"
    assert old["spec"]["group"] == ["crew", "system:authenticated"]
    assert "groups" not in old["spec"]


def answer(status: Any, **changes: Any) -> Obj:
    return {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": status, **changes}


@pytest.mark.parametrize(
    ("status", "allowed", "denied", "error"),
    [
        ({"allowed": True, "reason": "r"}, True, False, False),
        ({"allowed": False, "reason": "r"}, False, False, False),
        ({"denied": True, "reason": "r"}, False, True, False),
        ({"allowed": True, "denied": True, "reason": "r"}, False, True, True),
    ],
)
def test_answers(status: Obj, allowed: bool, denied: bool, error: bool) -> None:
    decision = decision_of(status_of(answer(status), "v1"))
    assert (decision.allowed, decision.denied, decision.reason, bool(decision.error)) == (allowed, denied, "r", error)


@pytest.mark.parametrize(
    "wrong",
    [
        answer({"allowed": "yes"}),
        answer([]),
        answer({"allowed": True, "reason": 3}),
        answer({"allowed": True}, kind="Status"),
        answer({"allowed": True}, apiVersion="authorization.k8s.io/v1beta1"),
    ],
)
def test_what_is_no_answer(wrong: Obj) -> None:
    with pytest.raises(BadAnswer):
        status_of(wrong, "v1")


def test_only_short_questions_are_remembered() -> None:
    assert may_be_kept(LIST)
    assert not may_be_kept(Action("get", path="/" + "x" * 10_000))


@pytest.mark.parametrize(
    ("expressions", "holds"),
    [
        (["has(request.resourceAttributes)", "request.resourceAttributes.namespace == 'shop'"], True),
        (["has(request.resourceAttributes)", "request.resourceAttributes.namespace == 'kube-system'"], False),
        (["request.resourceAttributes.subresource == ''"], True),
        (["'crew' in request.groups && request.uid == '7'"], True),
        (["request.extra['acme.io/team'].exists(t, t == 'red')"], True),
        (["has(request.nonResourceAttributes)"], False),
        (["request.nonResourceAttributes.path == '/x'", "false"], False),  # one that is false decides
        (["request.resourceAttributes.fieldSelector.requirements.exists(r, r.key == 'metadata.name')"], True),
        (["has(request.resourceAttributes.labelSelector)"], True),
        (["request.resourceAttributes.?labelSelector.rawSelector.orValue('') == ''"], True),
        (["!(request.user in ['system:admin'])", "request.user.startsWith('an')"], True),
    ],
)
def test_conditions(expressions: list[str], holds: bool) -> None:
    conditions = Conditions(expressions)
    assert conditions.hold(spec_of(ANNA, LIST)) is holds
    assert conditions.hold(spec_of(ANNA, LIST), inline=True) is holds


def test_conditions_without_a_result() -> None:
    conditions = Conditions(["request.nonResourceAttributes.path == '/x'", "true", "request.extra['b'] == []"])
    with pytest.raises(Failed) as caught:
        conditions.hold(spec_of(ANNA, LIST))
    text = str(caught.value)
    assert text.startswith("[cel evaluation error: expression 'request.nonResourceAttributes.path == '/x'' resulted in")
    assert text.count("cel evaluation error") == 2


def test_costly_conditions_are_not_for_the_event_loop() -> None:
    many = UserInfo("anna", groups=tuple(f"g{i}" for i in range(200)))
    conditions = Conditions(["request.groups.all(a, request.groups.exists(b, a == b))"])
    with pytest.raises(Costly):
        conditions.hold(spec_of(many, LIST), inline=True)
    assert conditions.hold(spec_of(many, LIST))
