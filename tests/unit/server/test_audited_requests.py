"""What the audit log says of a request that goes through the application, stage by stage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import orjson
import pytest

from orca.api.builtin import BUILTIN
from orca.api.errors import ApiError, service_unavailable, unauthorized
from orca.api.objects import Obj
from orca.api.resources import ResourceTable
from orca.auth import Action, Authenticator, Authorizer, StaticTokens, UserInfo
from orca.auth.identity import Decision
from orca.client.clock import VirtualClock
from orca.server.app import App, Parts
from orca.server.audit import Audit, AuditLog, Policy
from orca.server.deadlines import Deadlines
from orca.server.health import Health
from orca.server.identity import Gate
from orca.server.metrics import Metrics
from orca.server.request import Request
from orca.store import Store
from tests.support.wire import Listening, listening, said

GROUP = "elsewhere.example.com"
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: None, users: [quiet]}, {level: Metadata}]
"""
STALE = {"authentication.k8s.io/stale-token": "subject: ann"}


class Everything:
    """An authorizer."""

    async def authorize(self, _user: UserInfo, _action: Action) -> Decision:
        return Decision(True)


class Elsewhere:
    """Another server that has a group; ``error`` is what is told of it."""

    def __init__(self) -> None:
        self.error: ApiError = service_unavailable("nobody answers")

    def remote(self, group: str, _version: str) -> Obj | None:
        return {} if group == GROUP else None

    async def proxy(self, request: Request, _service: Obj) -> Any:
        raise self.error


class Kept:
    """A log in memory."""

    full = False

    def __init__(self) -> None:
        self.events: list[Any] = []

    def put(self, line: bytes) -> None:
        self.events.append(orjson.loads(line))


class World:
    """An application with little behind it. ``health`` may be given checks."""

    def __init__(self) -> None:
        self.log, self.health = Kept(), Health()
        users = {"a": UserInfo("ann"), "q": UserInfo("quiet")}
        notes = lambda token: STALE if token == "a" else {}  # noqa: E731
        gate = Gate(Authenticator([StaticTokens(users)]), cast(Authorizer, Everything()), notes=notes)
        table, none = ResourceTable(list(BUILTIN)), cast(Any, None)
        self.app = App(
            Parts(
                table=table,
                verbs=none,
                gate=gate,
                health=self.health,
                discovery=none,
                openapi=none,
                metrics=Metrics(table, cast(Store, None)),
                splicer=none,
                aggregator=cast(Any, Elsewhere()),
                clock=VirtualClock(),
                well_known={},
                configz={},
                zpages=none,
                deadlines=Deadlines(60),
                audit=Audit(Policy.parse(POLICY), cast(AuditLog, self.log)),
            )
        )
        self.front: Listening | None = None

    async def ask(self, path: str, *headers: str, token: str = "a") -> int:
        """The status of the answer."""
        assert self.front is not None
        lines = [f"GET {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {token}", *headers, "Connection: close"]
        return int((await said(self.front.port, "\r\n".join([*lines, "", ""]).encode())).split(b" ")[1])

    def stages(self) -> list[tuple[str, int | None]]:
        """With the codes."""
        return [(one["stage"], (one.get("responseStatus") or {}).get("code")) for one in self.log.events]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with listening(made.app) as made.front:
        yield made


@pytest.mark.parametrize("path", ["things?watch=true", "namespaces/d/things/x/exec", "namespaces/d/things/x/proxy"])
async def test_what_another_server_does_not_answer_has_not_begun(world: World, path: str) -> None:
    assert await world.ask(f"/apis/{GROUP}/v1/{path}") == 503
    assert world.stages() == [("RequestReceived", None), ("ResponseStarted", 503), ("ResponseComplete", 503)]


@pytest.mark.parametrize("header", ["Impersonate-User:", "Impersonate-Foo: x"])
async def test_who_acts_as_nobody_else_is_not_told_to(world: World, header: str) -> None:
    assert await world.ask("/readyz/ping", header) == 200
    assert await world.ask("/readyz/ping", "Impersonate-User: bob") == 200
    plain, acting = (one for one in world.log.events if one["stage"] == "ResponseComplete")
    assert plain["user"]["username"] == acting["user"]["username"] == "ann"
    assert "impersonatedUser" not in plain
    assert acting["impersonatedUser"]["username"] == "bob"


async def test_all_stages_tell_of_a_token(world: World) -> None:
    await world.ask("/readyz/ping")
    assert [one["stage"] for one in world.log.events] == ["RequestReceived", "ResponseComplete"]
    assert all(STALE.items() <= one["annotations"].items() for one in world.log.events)


async def test_who_is_known_is_no_stranger_whatever_is_refused_later(world: World) -> None:
    async def refused() -> None:
        raise unauthorized()

    async def respond(*_: object) -> Any:
        await refused()

    world.health.respond = respond  # type: ignore[method-assign]  # as a webhook of admission may deny
    assert await world.ask("/readyz", token="q") == 401
    assert world.log.events == []
    assert await world.ask("/readyz", token="x") == 401
    assert world.stages() == [("ResponseStarted", 401)]
