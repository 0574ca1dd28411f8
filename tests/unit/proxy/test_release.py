"""Hosts tell each other when their rules have let go of a pod: who is asked, how often, and what holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web

from agents.proxy import release
from agents.proxy.release import Release, peers_of
from orca.api.builtin import NODES
from orca.api.objects import Obj
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.support.patience import PATIENCE
from tests.support.ports import free_port


class Rules:
    """Of one host: what it knows, and what it has let go of."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.forgotten: set[str] = set()
        self.started = asyncio.Event()
        self.started.set()
        self.used: dict[str, asyncio.Event] = {ip: asyncio.Event() for ip in known}

    async def synced(self) -> None:
        await self.started.wait()

    def knows(self, ip: str) -> bool:
        return ip in self.known

    async def released(self, ip: str) -> bool:
        if ip in self.used:
            await self.used[ip].wait()
        return True

    async def forget_unanswered(self, ips: Iterable[str]) -> None:
        self.forgotten |= set(ips)

    def let_go(self, *ips: str) -> None:
        for ip in ips:
            self.used[ip].set()


def node(name: str, port: int = 10250, ready: str = "True", address: str = "127.0.0.1") -> Obj:
    return {
        "metadata": {"name": name, "resourceVersion": "1", "uid": name},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": ready}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    }


class Other:
    """Another host's agent, without TLS."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.asked: list[list[str]] = []
        self.was_asked = asyncio.Event()
        self.port = 0
        self._part = Release(rules, _informer(), "other", trust=lambda: None)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.query.getall("ip", []))
        self.was_asked.set()
        return await self._part.serve(request)


def _informer(*nodes: Obj) -> Informer:
    informer = Informer(FakeClient(), NODES)
    for one in nodes:
        informer._objects[one["metadata"]["name"]] = one
    return informer


@asynccontextmanager
async def agent_of(rules: Rules, port: int = 0) -> Any:
    other = Other(rules)
    app = web.Application()
    app.router.add_get(release.PATH, other.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    other.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield other
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP instead of HTTPS."""
    original: Callable[..., list[release.Peer]] = release.peers_of

    def without_tls(nodes: Any, own: str) -> list[release.Peer]:
        return [release.Peer(p.name, p.url.replace("https:", "http:")) for p in original(nodes, own)]

    monkeypatch.setattr(release, "peers_of", without_tls)
    monkeypatch.setattr(release, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(release, "CONNECT_SECONDS", PATIENCE)  # a busy machine is no host that is away


def test_nodes_that_report_are_asked_and_those_that_are_silent_are_not() -> None:
    found = peers_of(
        [node("me"), node("b", 10251), node("a", address="fd00::2"), node("lost", ready="Unknown"), {
            "metadata": {"name": "new"}
        }, node("ill", ready="False")],
        "me",
    )  # fmt: skip
    assert [(peer.name, peer.url) for peer in found] == [
        ("a", "https://[fd00::2]:10250/proxy/released"),
        ("b", "https://127.0.0.1:10251/proxy/released"),
        ("ill", "https://127.0.0.1:10250/proxy/released"),
    ]


async def test_an_address_of_no_service_is_asked_of_nobody() -> None:
    async with agent_of(Rules()) as other:
        here = Release(Rules(), _informer(node("other", other.port)), "me", trust=lambda: None)
        assert not await here.released(["10.244.0.9"], 5)
        assert other.asked == []


async def test_an_agent_that_has_just_started_knows_first_what_is_used() -> None:
    rules = Rules()
    rules.started.clear()
    here = Release(rules, _informer(), "me", trust=lambda: None)
    waiting = asyncio.create_task(here.released(["10.244.0.1"], 60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    rules.started.set()
    assert not await waiting


async def test_the_signal_waits_for_the_slowest_host_and_pods_share_a_question() -> None:
    own, far = Rules("10.244.0.1", "10.244.0.2"), Rules("10.244.0.1", "10.244.0.2")
    async with agent_of(far) as other:
        here = Release(own, _informer(node("me"), node("other", other.port)), "me", trust=lambda: None)
        waiting = [asyncio.create_task(here.released([ip], 60)) for ip in ("10.244.0.1", "10.244.0.2")]
        await asyncio.sleep(0.02)
        assert other.asked == [], "the other hosts are asked when this one has let go"
        own.let_go("10.244.0.1", "10.244.0.2")
        await other.was_asked.wait()
        assert not any(one.done() for one in waiting)
        far.let_go("10.244.0.1", "10.244.0.2")
        assert await asyncio.gather(*waiting) == [True, True]
        assert other.asked == [["10.244.0.1", "10.244.0.2"]]
        assert own.forgotten == far.forgotten == {"10.244.0.1", "10.244.0.2"}
        await here.aclose()


async def test_an_agent_that_starts_again_is_waited_for() -> None:
    own, far = Rules("10.244.0.1"), Rules("10.244.0.1")
    own.let_go("10.244.0.1")
    far.let_go("10.244.0.1")
    port = free_port()
    here = Release(own, _informer(node("other", port)), "me", trust=lambda: None)
    waiting = asyncio.create_task(here.released(["10.244.0.1"], 60))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    async with agent_of(far, port):
        assert await waiting
    await here.aclose()


async def test_a_host_that_never_answers_holds_up_one_pod_and_not_the_next() -> None:
    own = Rules("10.244.0.1")
    own.let_go("10.244.0.1")
    here = Release(own, _informer(node("other", free_port())), "me", trust=lambda: None)
    await here.released(["10.244.0.1"], 0.3)
    async with asyncio.timeout(PATIENCE):
        while " 1 silent" not in repr(here):  # noqa: ASYNC110 - known a moment later
            await asyncio.sleep(0.01)
        assert await here.released(["10.244.0.1"], 10 * PATIENCE)
    await here.aclose()


async def test_slices_that_never_change_hold_a_pod_up_as_long_as_it_allows() -> None:
    here = Release(Rules("10.244.0.1"), _informer(), "me", trust=lambda: None)
    assert not await here.released(["10.244.0.1"], 0.05)


async def test_of_very_many_hosts_some_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "MOST_PEERS", 2)
    own = Rules("10.244.0.1")
    own.let_go("10.244.0.1")
    async with agent_of(Rules()) as other:
        nodes = [node(f"n{index}", other.port) for index in range(5)]
        here = Release(own, _informer(*nodes), "me", trust=lambda: None)
        assert await here.released(["10.244.0.1"], 60)
        assert len(other.asked) == 2
        await here.aclose()


@pytest.mark.parametrize(
    "told", [b"{}", b"[]", b'"released"', b'{"released": true, "more": "' + b"x" * 100_000 + b'"}']
)
async def test_nonsense_of_another_host_holds_no_pod_up(told: bytes) -> None:
    own = Rules("10.244.0.1")
    own.let_go("10.244.0.1")

    async def say(request: web.Request) -> web.Response:
        return web.Response(body=told)

    app = web.Application()
    app.router.add_get(release.PATH, say)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    here = Release(own, _informer(node("other", port)), "me", trust=lambda: None)
    try:
        assert await here.released(["10.244.0.1"], 60)
    finally:
        await here.aclose()
        await runner.cleanup()


@pytest.mark.parametrize("query", ["", "?seconds=1", "?ip=10.0.0.1&seconds=x", "?ip=10.0.0.1&seconds=nan"])
async def test_a_bad_question_is_refused(query: str) -> None:
    url = f"{release.PATH}{query}"
    async with (
        agent_of(Rules()) as other,
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{other.port}{url}") as answer,
    ):
        assert answer.status == 400
