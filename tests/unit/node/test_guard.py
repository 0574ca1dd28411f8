"""Who may use the agent's server."""

from __future__ import annotations

from typing import Any

import pytest

from agents.config.model import AnonymousAuthentication, Authentication, Authorization
from agents.server.auth import Guard, User, subresources_of
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient


class Reviews(FakeClient):
    """An API that knows one token, and lets ``ann`` read metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.down = False

    async def create(self, resource: Resource, obj: Obj, namespace: str = "") -> Obj:
        self.asked.append(resource.plural)
        if self.down:
            raise ApiError(503, "ServiceUnavailable", "away")
        if resource.plural == "tokenreviews":
            known = obj["spec"]["token"] == "good"
            user = {"username": "ann", "groups": ["system:authenticated"]}
            return {**obj, "status": {"authenticated": known, **({"user": user} if known else {})}}
        attributes = obj["spec"]["resourceAttributes"]
        assert attributes["name"] == "host-1"
        allowed = (obj["spec"]["user"], attributes["verb"], attributes["subresource"]) in {
            ("ann", "get", "metrics"),
            ("ann", "get", "pods"),
        }
        return {**obj, "status": {"allowed": allowed}}


def guard(client: FakeClient | None = None, clock: VirtualClock | None = None, **options: Any) -> Guard:
    return Guard(client, "host-1", clock=clock or VirtualClock(), **options)


ANN = User("ann", ("system:authenticated",))


@pytest.mark.parametrize(
    ("path", "subresources"),
    [
        ("/stats/summary", ("stats",)),
        ("/metrics", ("metrics",)),
        ("/metrics/cadvisor", ("metrics",)),
        ("/logs/", ("log",)),
        ("/healthz/ping", ("healthz", "proxy")),
        ("/configz", ("configz", "proxy")),
        ("/pods/", ("pods", "proxy")),
        ("/runningpods/", ("pods", "proxy")),
        ("/podsandmore", ("proxy",)),
        ("/exec/a/b/c", ("proxy",)),
    ],
)
def test_paths_are_subresources_of_the_node(path: str, subresources: tuple[str, ...]) -> None:
    assert subresources_of(path) == subresources


async def test_tokens_are_verified_once_for_two_minutes() -> None:
    client, clock = Reviews(), VirtualClock()
    checked = guard(client, clock)
    assert await checked.user(None, "Bearer good") == ANN
    assert await checked.user(None, "Bearer good") == ANN
    assert client.asked == ["tokenreviews"]
    await clock.advance(121)
    assert await checked.user(None, "Bearer good") == ANN
    assert len(client.asked) == 2
    assert await checked.user(None, "Bearer bad") is None
    assert await checked.user(None, "Basic good") is None
    assert await checked.user(None, "") is None


async def test_nobody_is_known_by_a_token_while_the_api_is_away() -> None:
    client = Reviews()
    client.down = True
    assert await guard(client).user(None, "Bearer good") is None


async def test_anonymous_only_when_asked_for() -> None:
    anonymous = Authentication(anonymous=AnonymousAuthentication(enabled=True))
    user = await guard(Reviews(), authentication=anonymous).user(None, "")
    assert user == User("system:anonymous", ("system:unauthenticated",))


async def test_the_api_says_what_a_user_may_and_is_asked_once() -> None:
    client, clock = Reviews(), VirtualClock()
    checked = guard(client, clock)
    for _ in range(2):
        assert await checked.objection(ANN, "GET", "/metrics") is None
        assert await checked.objection(ANN, "GET", "/pods") is None
        assert await checked.objection(ANN, "POST", "/metrics") == (
            403,
            "Forbidden (user=ann, verb=create, resource=nodes, subresource(s)=[metrics])",
        )
        refused = await checked.objection(ANN, "GET", "/configz")
        assert refused == (403, "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[configz proxy])")
    assert len(client.asked) == 5
    await clock.advance(31)
    await checked.objection(ANN, "POST", "/metrics")
    await checked.objection(ANN, "GET", "/metrics")
    assert len(client.asked) == 6, "a refusal is kept 30 s, a permission 5 min"


async def test_an_api_that_is_away_permits_nothing() -> None:
    client = Reviews()
    client.down = True
    refused = await guard(client).objection(ANN, "GET", "/metrics")
    assert refused is not None
    assert refused[0] == 500
    assert await guard(client).objection(User("root", ("system:masters",)), "GET", "/exec/a/b/c") is None


async def test_always_allow_allows_everybody_who_is_known() -> None:
    checked = guard(None, authorization=Authorization(mode="AlwaysAllow"))
    assert await checked.objection(ANN, "POST", "/exec/a/b/c") is None


async def test_a_token_that_is_no_text_is_nobodys() -> None:
    """Bytes that are no UTF-8 reach a handler as lone surrogates, which nothing can encode."""
    client = Reviews()
    assert await guard(client).user(None, "Bearer \udcff\udcfe") is None
    assert client.asked == []


async def test_agents_ask_each_other_and_nobody_is_asked_whether_they_may() -> None:
    api = Reviews()
    peer = User("system:node:host-2", ("system:nodes", "system:authenticated"))
    assert await guard(api).objection(peer, "GET", "/proxy/released") is None
    assert api.asked == []
    refused = await guard(api).objection(ANN, "GET", "/proxy/released")
    assert refused is not None
    assert refused[0] == 403
    refused = await guard(api).objection(peer, "POST", "/proxy/released")
    assert refused is not None
    assert refused[0] == 403
