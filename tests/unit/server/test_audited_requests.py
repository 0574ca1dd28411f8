"""What the audit log says of a request that goes through the application, stage by stage."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
import yaml
from aiohttp import web

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
from orca.server.fairness.turns import Lane, Turns
from orca.server.health import Health
from orca.server.identity import Gate
from orca.server.metrics import Metrics
from orca.server.request import Request
from orca.server.responses import ANSWERING
from orca.store import Entry, Page, Store
from tests.support.patience import PATIENCE
from tests.support.wire import Listening, dialled, listening, said

GROUP = "elsewhere.example.com"
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
  - {level: None, users: [quiet]}
  - {level: RequestResponse, omitManagedFields: true, resources: [{group: "", resources: [configmaps]}]}
  - {level: Metadata}
"""
HALF = b"the first half"
MAPS = "/api/v1/namespaces/d/configmaps"
MADE = {"name": "one", "namespace": "d", "uid": "u", "managedFields": [{"manager": "me"}]}
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
        self.complete = asyncio.Event()

    def put(self, line: bytes) -> None:
        assert line.count(b"\n") == 1
        self.events.append(orjson.loads(line))
        if self.events[-1]["stage"] == "ResponseComplete":
            self.complete.set()


class Held:
    """The verbs of one ConfigMap, which is listed ``many`` times."""

    def __init__(self) -> None:
        self.many = 1
        self.are(1 << 18)

    def are(self, size: int) -> None:
        """Long strings, which cannot be packed much."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": MADE, "data": {"x": os.urandom(size // 2).hex()}}
        self.entry = Entry("d", "one", 5, None, orjson.dumps(obj))

    async def create(self, *_: object) -> Entry:
        return self.entry

    async def get(self, *_: object, **__: object) -> Entry:
        return self.entry

    async def list(self, *_: object) -> Page:
        return Page([self.entry] * self.many, 5)

    async def delete_collection(self, *_: object) -> Page:
        return await self.list()


class Turn(Lane):
    """One that is waited for until the test says so."""

    def __init__(self) -> None:
        super().__init__(Turns(), "")
        self.awaited, self.comes = asyncio.Event(), asyncio.Event()

    async def turn(self) -> None:
        self.awaited.set()
        await self.comes.wait()


class World:
    """An application with little behind it. ``health`` may be given checks."""

    def __init__(self) -> None:
        self.log, self.health, self.held, self.deadlines = Kept(), Health(), Held(), Deadlines(60)
        users = {"a": UserInfo("ann"), "q": UserInfo("quiet")}
        notes = lambda token: STALE if token == "a" else {}  # noqa: E731
        gate = Gate(Authenticator([StaticTokens(users)]), cast(Authorizer, Everything()), notes=notes)
        table, none = ResourceTable(list(BUILTIN)), cast(Any, None)
        self.app = App(
            Parts(
                table=table,
                verbs=cast(Any, self.held),
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
                deadlines=self.deadlines,
                audit=Audit(Policy.parse(POLICY), cast(AuditLog, self.log)),
            )
        )
        self.front: Listening | None = None

    async def ask(self, path: str, *headers: str, token: str = "a") -> int:
        """The status of the answer."""
        assert self.front is not None
        lines = [f"GET {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {token}", *headers, "Connection: close"]
        return int((await said(self.front.port, "\r\n".join([*lines, "", ""]).encode())).split(b" ")[1])

    @asynccontextmanager
    async def asked(self, method: str, path: str, *headers: str, body: str = "") -> AsyncIterator[asyncio.StreamReader]:
        """The answer; at the end the client hangs up."""
        assert self.front is not None
        lines = [f"{method} {path} HTTP/1.1", "Host: a", "Authorization: Bearer a", f"Content-Length: {len(body)}"]
        async with dialled(self.front.port) as (reader, writer):
            writer.write("\r\n".join([*lines, *headers, "", body]).encode())
            yield reader

    async def told(self) -> Any:
        """The event at the end of the only request, when that has come."""
        async with asyncio.timeout(PATIENCE):
            await self.log.complete.wait()
            while self.front is not None and self.front.connections:  # noqa: ASYNC110 - the library's, and it says nothing
                await asyncio.sleep(0.01)
        assert [one["stage"] for one in self.log.events].count("ResponseComplete") == 1
        return self.log.events[-1]

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


async def test_who_goes_before_an_answer_is_logged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def path(_request: Request) -> Any:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.app, "_path", path)
    async with world.asked("GET", "/version"):
        await begun.wait()
    told = await world.told()
    assert told["responseStatus"] == {
        "metadata": {},
        "status": "Success",
        "message": "Connection closed early",
        "code": 200,
    }


@pytest.mark.parametrize("end", ["client", "deadline", "connection", "error"])
async def test_an_answer_that_is_cut_is_logged_once(world: World, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    async def path(request: Request) -> Any:
        response = web.StreamResponse(status=203)
        response.content_length = 1000
        request.http[ANSWERING] = True
        await response.prepare(request.http)
        request.answering(response.status)
        await response.write(HALF)
        if end == "connection":
            raise ConnectionResetError
        if end == "error":
            raise service_unavailable("no more of it")
        if end == "deadline":
            world.deadlines._expire(cast(Any, asyncio.current_task()))
        await asyncio.Event().wait()

    monkeypatch.setattr(world.app, "_path", path)
    async with world.asked("GET", "/version") as answer:
        await answer.readuntil(HALF)
        if end != "client":
            await answer.read()
    assert (await world.told())["responseStatus"]["code"] == (503 if end == "error" else 203)


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
@pytest.mark.parametrize("form", ["Accept-Encoding: gzip", "Accept: application/json"])
async def test_who_goes_in_a_long_list_is_logged(world: World, verb: str, form: str) -> None:
    world.held.many = 200  # 50 MB: no buffers hold so much
    async with world.asked(verb, MAPS, form) as answer:
        await answer.readuntil(b"\r\n\r\n")
    told = await world.told()
    assert told["responseStatus"] == {"metadata": {}, "code": 200}
    assert len(told["responseObject"]["items"]) == 200
    assert "managedFields" not in told["responseObject"]["items"][0]["metadata"]


@pytest.mark.parametrize("end", ["client", "deadline"])
@pytest.mark.parametrize("verb", ["POST", "DELETE"])
async def test_what_is_stored_is_logged_and_answered_so(world: World, verb: str, end: str) -> None:
    turn = world.app._lane = Turn()
    code = 201 if verb == "POST" else 200
    headers = ["Connection: close"] if end == "deadline" else []
    async with world.asked(verb, MAPS, *headers, body="{}") as answer:
        await turn.awaited.wait()
        if end == "deadline":
            [task] = world.deadlines._due
            world.deadlines._expire(task)
            turn.comes.set()
            assert (await answer.readline()).startswith(b"HTTP/1.1 %d " % code)
            await answer.read()
    if end == "client":
        assert world.front is not None
        async with asyncio.timeout(PATIENCE):
            while any(one.transport is not None for one in world.front.connections):  # noqa: ASYNC110 - as in told
                await asyncio.sleep(0.01)
        turn.comes.set()
    told = await world.told()
    assert told["responseStatus"]["code"] == code
    assert told["responseObject"]["kind"] == ("ConfigMap" if verb == "POST" else "ConfigMapList")


@pytest.mark.parametrize("accept", ["application/yaml", "application/json;as=Table;g=meta.k8s.io;v=v1"])
@pytest.mark.parametrize("what", ["", "/one", "?pretty=true", "/one?pretty=true"])
async def test_what_is_logged_is_not_made_of_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, accept: str, what: str
) -> None:
    """To parse YAML takes most of a second for a megabyte."""

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("a long answer was taken apart")

    monkeypatch.setattr(yaml, "load", parsed)
    world.held.many = 3
    assert await world.ask(MAPS + what, f"Accept: {accept}") == 200
    shown = (await world.told())["responseObject"]
    if "Table" in accept:
        assert [row["object"]["metadata"]["name"] for row in shown["rows"]] == ["one"] * (1 if "one" in what else 3)
    elif "one" in what:
        assert shown["data"] == world.held.entry.obj["data"]
    else:
        assert [one["data"] for one in shown["items"]] == [world.held.entry.obj["data"]] * 3
    assert "managedFields" not in str(shown)


async def test_a_long_list_is_made_for_the_log_in_turns(world: World) -> None:
    turns = Turns(budget=0.0)
    world.app._lane = turns.lane("")
    world.held.many = 160
    world.held.are(10)
    assert await world.ask(MAPS) == 200
    assert len((await world.told())["responseObject"]["items"]) == 160
    assert turns.waited >= 9
