"""What a host announces, when it begins, goes on and ends; in virtual time, on a wire without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agents.balancer import announcer, frames, model
from agents.balancer.announcer import FILE, Announcer
from agents.balancer.segment import Heard
from agents.durable import read_object
from orca.api.builtin import SERVICES
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.client.informer import Informer

OWN, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
IP = "192.0.2.10"
ROUTES = "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 00000000 0001 0 0 0 00000000\n"


class Heart:
    def __init__(self) -> None:
        self.silent_seconds = 0.0
        self.hurried = False

    def hurry(self, wanted: bool) -> None:
        self.hurried = wanted


class Wire:
    def __init__(self, interface: str, heard: Heard) -> None:
        self.interface, self.heard = interface, heard
        self.mac = OWN
        self.stale = False
        self.sent: list[bytes] = []
        self.closed = False

    def listen_for(self, address: str) -> None: ...

    def forget(self, address: str) -> None: ...

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def close(self) -> None:
        self.closed = True

    def say(self, said: frames.Question | frames.Claim) -> list[bytes]:
        """What is answered at once."""
        before = len(self.sent)
        self.heard(self.interface, said)
        return self.sent[before:]

    @property
    def claims(self) -> int:
        return sum(frame in frames.announcement(IP, OWN) for frame in self.sent)


class Host:
    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        self.api = FakeClient(clock=self.clock)
        self.informer = Informer(self.api, SERVICES, clock=self.clock)
        self.heart = Heart()
        self.wires: list[Wire] = []
        self.root = root
        self.announcer = Announcer(
            self.informer,
            "host-1",
            self.heart,
            root=root,
            clock=self.clock,
            open_wire=self._open,
            way=lambda: (ROUTES, ""),
        )

    def _open(self, interface: str, heard: Heard) -> Wire:
        self.wires.append(Wire(interface, heard))
        return self.wires[-1]

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)
        await self.clock.settle()


@pytest.fixture(autouse=True)
def files_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in threads, for which nobody could say how long they take."""

    async def here(call: Callable[..., object], *arguments: object) -> object:
        return call(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", here)


@asynccontextmanager
async def running(root: Path, *, api: bool = True) -> AsyncIterator[Host]:
    host = Host(root)
    tasks = [asyncio.create_task(host.announcer.run())]
    if api:
        tasks.append(asyncio.create_task(host.informer.run()))
    try:
        await host.settle()
        yield host
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def service(node: str = "host-1", **spec: object) -> Obj:
    return {
        "metadata": {"name": "web", "namespace": "default", "annotations": {model.ANNOUNCED_BY: node}},
        "spec": {"type": "LoadBalancer", **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": IP, "ipMode": "VIP"}]}},
    }


QUESTION = frames.Question(IP, OTHER, "192.0.2.1")


def test_only_what_is_this_nodes_is_announced() -> None:
    assert model.assigned([service()], "host-1") == {IP: "default/web"}
    for other in (
        service("host-2"),
        service(loadBalancerClass="example.com/x"),
        service(type="NodePort"),
        {"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer"}},
    ):
        assert model.assigned([other], "host-1") == {}


async def test_a_host_without_addresses_opens_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.api.seed(SERVICES, service("host-2"))
        await host.settle(10)
        assert host.wires == []
        assert not host.heart.hurried


async def test_an_address_is_told_answered_and_given_up(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.api.seed(SERVICES, service())
        await host.settle(0.1)
        (wire,) = host.wires
        assert host.announcer.addresses == {IP}
        assert host.heart.hurried
        assert wire.claims == 2
        assert wire.say(QUESTION) == [frames.answer(QUESTION, OWN)]
        assert wire.say(frames.Question("192.0.2.11", OTHER, "192.0.2.1")) == []
        await host.settle(10)
        assert wire.claims == 2 * len(model.TOLD_AT)
        assert read_object(tmp_path / "balancer" / FILE) == {IP: "default/web"}
        note = {"metadata": {"annotations": {model.ANNOUNCED_BY: "host-2"}}}
        await host.api.patch(SERVICES, "web", note, "default")
        await host.settle(0.1)
        assert host.announcer.addresses == frozenset()
        assert wire.closed
        assert not host.heart.hurried
        assert not (tmp_path / "balancer" / FILE).exists()


async def test_while_the_api_is_away_it_goes_on_until_another_one_claims_the_address(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.api.seed(SERVICES, service())
        await host.settle(0.1)
        (wire,) = host.wires
        host.heart.silent_seconds = 60.0
        await host.settle(60)
        assert wire.say(QUESTION), "nobody can take over while the API is away for all"
        wire.say(frames.Claim(IP, OTHER))
        await host.settle(0.1)
        assert host.announcer.addresses == frozenset()
        assert wire.closed
        # The API is back and says the same as before; then that it is ours again.
        host.heart.silent_seconds = 0.0
        await host.api.patch(SERVICES, "web", {"metadata": {"annotations": {model.ANNOUNCED_BY: "host-2"}}}, "default")
        await host.settle(0.1)
        await host.api.patch(SERVICES, "web", {"metadata": {"annotations": {model.ANNOUNCED_BY: "host-1"}}}, "default")
        await host.settle(0.1)
        assert host.announcer.addresses == {IP}


async def test_an_address_that_stayed_ours_is_taken_up_again_when_the_api_is_back(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.api.seed(SERVICES, service())
        await host.settle(0.1)
        host.heart.silent_seconds = 60.0
        await host.settle(60)
        host.wires[0].say(frames.Claim(IP, OTHER))
        for _ in range(6):
            await host.settle(announcer.RECONSIDER_SECONDS)
            assert host.announcer.addresses == frozenset(), "the API may have given it to the other"
        host.heart.silent_seconds = 0.5
        await host.settle(announcer.RECONSIDER_SECONDS / 2)
        assert host.announcer.addresses == frozenset(), "the news of that may be on its way"
        await host.settle(announcer.RECONSIDER_SECONDS)
        assert host.announcer.addresses == {IP}


async def test_a_stranger_gets_a_protest_and_no_more_than_one_at_a_time(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.api.seed(SERVICES, service())
        await host.settle(0.1)
        await host.settle(20)
        (wire,) = host.wires
        before = wire.claims
        wire.say(frames.Claim(IP, OTHER))
        await host.settle()
        wire.say(frames.Claim(IP, OTHER))
        assert wire.claims == before
        await host.settle(model.PATIENCE_SECONDS)
        assert wire.claims == before + 2
        wire.say(frames.Claim(IP, OTHER))
        await host.settle(1)
        assert wire.claims == before + 2
        assert host.announcer.addresses == {IP}
        await host.settle(model.DEFEND_SECONDS)
        wire.say(frames.Claim(IP, OTHER))
        await host.settle(model.PATIENCE_SECONDS + 0.1)
        assert wire.claims == before + 4


async def test_hosts_do_not_quarrel_when_an_address_is_handed_over(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.heart.silent_seconds = 9.0  # it had nothing to announce, so its lease is renewed every ten
        host.api.seed(SERVICES, service())
        await host.settle(0.1)
        (wire,) = host.wires
        wire.say(frames.Claim(IP, OTHER))
        await host.settle(0.1)
        assert host.announcer.addresses == {IP}, "the API has just said that it is ours"
        before = wire.claims
        note = {"metadata": {"annotations": {model.ANNOUNCED_BY: "host-2"}}}
        await host.api.patch(SERVICES, "web", note, "default")
        wire.say(frames.Claim(IP, OTHER))
        await host.settle(1)
        assert wire.claims == before


@pytest.fixture
async def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """An agent that starts while the API is away, and knows what it announced before."""
    async with running(tmp_path) as before:
        before.api.seed(SERVICES, service())
        await before.settle(0.1)
    assert (tmp_path / "balancer" / FILE).exists()
    monkeypatch.setattr(announcer, "PATIENCE_SECONDS", 0.01)
    async with running(tmp_path, api=False) as host:
        await asyncio.sleep(0.05)
        yield host


async def test_an_agent_that_starts_while_the_api_is_away_goes_on_quietly(alone: Host) -> None:
    await alone.settle(announcer.PROBE_SECONDS + 0.1)
    (wire,) = alone.wires
    assert wire.claims == 0
    assert wire.say(QUESTION)


async def test_it_does_not_when_another_one_answers(alone: Host) -> None:
    await alone.settle()
    (wire,) = alone.wires
    assert wire.sent == [frames.probe(IP, OWN)]
    wire.say(frames.Claim(IP, OTHER))
    await alone.settle(announcer.PROBE_SECONDS + 0.1)
    assert alone.announcer.addresses == frozenset()


async def test_without_the_api_it_asks_again_when_the_other_one_may_have_gone(alone: Host) -> None:
    await alone.settle()
    alone.wires[0].say(frames.Claim(IP, OTHER))
    await alone.settle(announcer.RECONSIDER_SECONDS / 2)
    assert alone.wires[0].sent == [frames.probe(IP, OWN)]
    await alone.settle(announcer.RECONSIDER_SECONDS + announcer.RETRY_SECONDS)
    assert alone.announcer.addresses == {IP}
    assert alone.wires[0].sent == [frames.probe(IP, OWN)] * 2
    # What goes and comes back is taken up again, too.
    alone.wires[0].stale = True
    await alone.settle(2 * announcer.RETRY_SECONDS + announcer.PROBE_SECONDS)
    assert alone.wires[0].closed
    assert alone.wires[1].say(QUESTION)


async def test_an_interface_that_comes_back_is_opened_again(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        host.api.seed(SERVICES, service())
        await host.settle(0.1)
        host.wires[0].stale = True
        await host.settle(10)
        assert len(host.wires) == 2
        assert host.wires[0].closed
        assert host.wires[1].say(QUESTION)
