"""Webhooks among other authorizers: what is remembered, what follows from failures, what a changed file does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orca.api.objects import Obj
from orca.auth import Action, UserInfo
from orca.auth.authorization_config import AuthorizationConfig, ConfigInvalid, Configured, parse_config
from orca.auth.authorizing import Authorization
from orca.auth.posting import PostFailed, Try
from orca.auth.webhook import AuthorizationMetrics, Decisions, Reloads, Settings, WebhookAuthorizer
from orca.client.clock import VirtualClock
from orca.client.kubeconfig import KubeconfigError
from tests.support.patience import PATIENCE
from tests.unit.auth.fakes import Reader

ANNA, BERT = UserInfo("anna"), UserInfo("bert")
GET = Action("get", resource="pods", namespace="shop", name="web")
KUBECONFIG = """{current-context: c, contexts: [{name: c, context: {cluster: c}}],
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1/authorize"}}]}"""


class Caller:
    """Answers instead of a webhook."""

    def __init__(self, tried: Callable[[Try], None]) -> None:
        self.asked: list[Obj] = []
        self.status: Any = {"allowed": True, "reason": "because"}
        self.failure: PostFailed | None = None
        self.closed = 0
        self.held: asyncio.Event | None = None
        self._tried = tried

    async def review(self, review: Obj) -> Obj:
        self.asked.append(review)
        if self.held is not None:
            await self.held.wait()
        self._tried(Try(0.5, self.failure))
        if self.failure is not None:
            raise self.failure
        return {"kind": "SubjectAccessReview", "apiVersion": review["apiVersion"], "status": self.status}

    async def aclose(self) -> None:
        self.closed += 1


class World:
    def __init__(self, path: Path, kinds: list[str], **settings: Any) -> None:
        kubeconfig = path / "hook.kubeconfig"
        kubeconfig.write_text(KUBECONFIG)
        self.clock = VirtualClock()
        self.registry = CollectorRegistry()
        self.metrics = AuthorizationMetrics(self.registry)
        hook = Settings(**{"name": "hook", "kubeconfig": kubeconfig, **settings})
        config = AuthorizationConfig(
            tuple(Configured(one, "hook", hook) if one == "Webhook" else Configured(one, one.lower()) for one in kinds)
        )
        self.authorization = Authorization(config, Reader(), self.clock, self.metrics)
        self.union = self.authorization.union
        self.registry.register(Decisions(self.union))
        self.caller = self.answering()

    def answering(self) -> Caller:
        """A caller for the webhook that is asked now."""
        (webhook,) = self.authorization._webhooks
        assert isinstance(webhook, WebhookAuthorizer)
        webhook._caller = caller = Caller(webhook._tried)  # type: ignore[assignment]
        return caller

    def value(self, name: str, /, **labels: str) -> float:
        return self.registry.get_sample_value(f"apiserver_authorization_{name}", labels) or 0.0


async def test_answers_are_remembered_for_their_time(tmp_path: Path) -> None:
    world = World(tmp_path, ["Webhook"], allowed_ttl=10.0, refused_ttl=2.0)
    assert world.union.at_once(ANNA, GET) is None
    decision = await world.union.authorize(ANNA, GET)
    assert (decision.allowed, decision.reason) == (True, "because")
    again = world.union.at_once(ANNA, GET)
    assert again is not None
    assert again.allowed
    assert world.union.at_once(BERT, GET) is None
    await world.clock.advance(10)
    assert world.union.at_once(ANNA, GET) is None
    world.caller.status = {"allowed": False, "reason": "no"}
    refused = await world.union.authorize(BERT, GET)
    assert (refused.allowed, refused.denied, refused.reason) == (False, False, "no")
    await world.clock.advance(1)
    assert world.union.at_once(BERT, GET) == refused
    await world.clock.advance(1)
    assert world.union.at_once(BERT, GET) is None
    assert world.value("webhook_evaluations_total", name="hook", result="success") == 2
    assert world.value("decisions_total", type="Webhook", name="hook", decision="allowed") == 2


async def test_nothing_is_remembered_without_a_time(tmp_path: Path) -> None:
    world = World(tmp_path, ["Webhook"], allowed_ttl=0.0)
    for _ in range(2):
        assert (await world.union.authorize(ANNA, GET)).allowed
    assert len(world.caller.asked) == 2


@pytest.mark.parametrize(
    ("kinds", "deny", "allowed", "denied"),
    [
        (["Webhook", "AlwaysAllow"], False, True, False),
        (["Webhook", "AlwaysAllow"], True, False, True),
        (["Webhook", "RBAC"], False, False, False),
        (["AlwaysAllow", "Webhook"], True, True, False),
    ],
)
async def test_a_webhook_that_fails(tmp_path: Path, kinds: list[str], deny: bool, allowed: bool, denied: bool) -> None:
    world = World(tmp_path, kinds, deny_on_failure=deny)
    world.caller.failure = PostFailed("gone", timed_out=True)
    decision = await world.union.authorize(ANNA, GET)
    assert (decision.allowed, decision.denied) == (allowed, denied)
    assert decision.error == ("" if allowed else "gone")
    asked = float(kinds[0] == "Webhook")
    assert world.value("webhook_evaluations_total", name="hook", result="timeout") == asked
    opened = world.value("webhook_evaluations_fail_open_total", name="hook", result="timeout")
    assert opened == (0.0 if deny else asked)


async def test_an_answer_that_is_none_is_a_failure(tmp_path: Path) -> None:
    world = World(tmp_path, ["Webhook"])
    world.caller.status = {"allowed": "yes"}
    assert "cannot unmarshal string" in (await world.union.authorize(ANNA, GET)).error
    assert world.value("webhook_evaluations_total", name="hook", result="error") == 1
    assert world.value("webhook_evaluations_total", name="hook", result="success") == 0


async def test_who_gives_up_is_counted_and_harms_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, ["Webhook"])
    world.caller.held = asyncio.Event()
    asking = asyncio.create_task(world.union.authorize(ANNA, GET))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert world.value("webhook_evaluations_total", name="hook", result="canceled") == 1
    world.caller.held = None
    assert (await world.union.authorize(ANNA, GET)).allowed


async def test_conditions_spare_the_webhook(tmp_path: Path) -> None:
    conditions = ("has(request.resourceAttributes)", "request.resourceAttributes.namespace == 'shop'")
    world = World(tmp_path, ["Webhook", "AlwaysAllow"], conditions=conditions, deny_on_failure=True)
    decision = world.union.at_once(ANNA, Action("get", resource="pods", namespace="other"))
    assert decision is not None
    assert decision.allowed
    assert world.union.at_once(ANNA, GET) is None
    assert world.caller.asked == []
    assert world.value("match_condition_exclusions_total", type="Webhook", name="hook") == 1
    failing = World(
        tmp_path, ["Webhook", "AlwaysAllow"], conditions=("request.extra['x'] == []",), deny_on_failure=True
    )
    decision = failing.union.at_once(ANNA, GET)
    assert decision is not None
    assert decision.denied
    assert "no such key: x" in decision.error
    assert failing.value("match_condition_evaluation_errors_total", type="Webhook", name="hook") == 1


async def test_costly_conditions_are_looked_at_in_a_thread(tmp_path: Path) -> None:
    many = UserInfo("anna", groups=tuple(f"g{i}" for i in range(200)))
    conditions = ("request.groups.all(a, request.groups.exists(b, a == b))",)
    world = World(tmp_path, ["Webhook"], conditions=conditions)
    assert world.union.at_once(many, GET) is None
    assert (await world.union.authorize(many, GET)).allowed


def test_masters_are_never_asked_about(tmp_path: Path) -> None:
    world = World(tmp_path, ["Webhook"])
    decision = world.union.at_once(UserInfo("root", groups=("system:masters",)), GET)
    assert decision is not None
    assert decision.allowed


def test_rules_that_nobody_can_list(tmp_path: Path) -> None:
    known = World(tmp_path, ["Webhook", "Node", "AlwaysAllow"]).union.rules_for(
        UserInfo("system:node:a", groups=("system:nodes",)), "shop"
    )
    assert known.incomplete
    assert known.error == (
        "[webhook authorizer does not support user rule resolution, "
        "node authorizer does not support user rule resolution]"
    )
    assert {"verbs": ["*"], "nonResourceURLs": ["*"]} in known.rules


def file(kubeconfig: Path, *kinds: str, ttl: str = "5m") -> bytes:
    hook = (
        "{type: Webhook, name: hook, webhook: {timeout: 1s, failurePolicy: Deny, subjectAccessReviewVersion: v1, "
        f"authorizedTTL: {ttl}, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {kubeconfig}}}}}}}"
    )
    authorizers = [hook if kind == "Webhook" else f"{{type: {kind}, name: {kind.lower()}}}" for kind in kinds]
    return (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"
        f"authorizers: [{', '.join(authorizers)}]\n"
    ).encode()


async def test_a_file_that_changes(tmp_path: Path) -> None:
    world = World(tmp_path, ["Webhook", "RBAC"])
    kubeconfig, path = tmp_path / "hook.kubeconfig", tmp_path / "authorization.yaml"
    first = file(kubeconfig, "Webhook", "RBAC")
    path.write_bytes(first)
    reloads = Reloads(world.registry, "server")

    def count(status: str) -> float:
        totals = world.registry.collect()
        return sum(
            sample.value
            for metric in totals
            for sample in metric.samples
            if sample.name.endswith("config_controller_automatic_reloads_total") and sample.labels["status"] == status
        )

    following = asyncio.create_task(world.authorization.follow(path, first, reloads))
    try:
        old, old.held = world.caller, asyncio.Event()
        asking = asyncio.create_task(world.union.authorize(ANNA, GET))
        await asyncio.sleep(0)
        wrong = (b"kind: [", file(kubeconfig, "Webhook"), file(kubeconfig, "Webhook", "RBAC", "Node"))
        for number, content in enumerate(wrong, 1):
            path.write_bytes(content)
            await _look(world.clock, lambda wanted=number: count("failure") == wanted)
            assert [member.kind for member in world.union.members] == ["", "Webhook", "RBAC"]
        path.write_bytes(file(kubeconfig, "AlwaysAllow", "RBAC"))
        await _look(world.clock, lambda: count("success") == 1)
        decision = world.union.at_once(BERT, GET)
        assert decision is not None
        assert decision.allowed
        assert old.closed == 0  # somebody still waits for it
        old.held.set()
        assert (await asking).allowed
        assert old.closed == 1
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _look(clock: VirtualClock, happened: Callable[[], bool]) -> None:
    """The file is looked at, and read and parsed in threads."""
    await clock.advance(5.0)
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110 - threads tell nobody when they are done
            await asyncio.sleep(0.001)


def test_what_a_new_content_must_have(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(KUBECONFIG)
    with pytest.raises(ConfigInvalid, match=r"missing required types: \[RBAC\]"):
        parse_config(file(tmp_path / "k", "Webhook"), ["RBAC"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("cluster: {server", "cluster: {proxy-url: 'http://p', server"), "proxy-url"),
        (("context: {cluster: c}", "context: {cluster: c, user: u}"), "there is no user 'u'"),
        (("current-context: c", "current-context: d"), "there is no context 'd'"),
        (("{current-context: c", "{users: [{name: u, user: {exec: {command: x}}}], current-context: c"), "has exec"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, change: tuple[str, str], text: str) -> None:
    kubeconfig = tmp_path / "hook.kubeconfig"
    kubeconfig.write_text(KUBECONFIG.replace(*change))
    config = parse_config(file(kubeconfig, "Webhook"))
    with pytest.raises(KubeconfigError, match=text):
        Authorization(config, Reader(), VirtualClock(), AuthorizationMetrics(CollectorRegistry()))
