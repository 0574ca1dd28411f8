"""What is written when: little, in time, and nothing where nothing is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest

from agents.policy.cluster import LINGER_SECONDS
from agents.policy.keeper import HEAL_PAUSE_SECONDS, HEAL_SECONDS, KNOWING_SECONDS, NetworkPolicies, PolicyError
from agents.policy.kernel import KernelError
from orca.api.builtin import NAMESPACES, NETWORKPOLICIES, PODS
from orca.api.objects import uid
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.unit.policy.interpreter import Packet, Table
from tests.unit.policy.things import labelled, pod, policy

Obj = dict[str, Any]
NODE = {"kind": "Node", "name": "here"}


def _nobody() -> None:
    """Is listening."""


class Remembers:
    """A kernel: the tiny nft, with faults."""

    def __init__(self) -> None:
        self.table = Table()
        self.writes: list[str] = []
        self.fails = ""
        self.cannot = ""
        self.generation = 0
        self.wake: Callable[[], None] = _nobody

    async def problem(self) -> str:
        return self.cannot

    async def apply(self, commands: str) -> None:
        if self.fails:
            raise KernelError(self.fails)
        self.table.apply(commands)
        self.generation += 1
        self.writes.append(commands)

    async def shape(self) -> str:
        return repr((sorted(self.table.chains.items()), sorted(self.table.sets))) if self.table.chains else ""

    async def listing(self) -> str:
        lines = []
        for kind, found in (("set", self.table.elements), ("map", self.table.maps)):
            for name, elements in found.items():
                lines += [f"\t{kind} {name} {{", *(["\t\telements = { … }"] if elements else []), "\t}"]
        return "\n".join(lines)

    def changes(self) -> int | None:
        return self.generation

    def listen(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def close(self) -> None:
        self.wake = _nobody


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, obj: Obj, kind: str, reason: str, message: str) -> None:
        self.events.append((str(obj.get("kind")), reason))


class Scene:
    """A host "here" with its policies enforced; time is virtual."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.client = FakeClient(clock=self.clock)
        self.kernel = Remembers()
        self.told = Told()
        self.starting: dict[str, Obj] = {}
        for name in ("x", "y"):
            self.client.seed(NAMESPACES, {"kind": "Namespace", "metadata": {"name": name, "labels": {"ns": name}}})

    def put(self, space: str, name: str, address: str, *, here: bool = False, **labels: str) -> Obj:
        made = pod(space, name, address, labels=labels)
        made["spec"]["nodeName"] = "here" if here else "elsewhere"
        return self.client.seed(PODS, made)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NetworkPolicies]:
        self.local = Informer(self.client, PODS, fields="spec.nodeName=here", clock=self.clock)
        namespaces = Informer(self.client, NAMESPACES, clock=self.clock)
        policies = NetworkPolicies(
            self.client,
            namespaces,
            kernel=self.kernel,
            dns=("10.96.0.10",),
            find=self.starting.get,
            recorder=self.told,
            node=NODE,
            clock=self.clock,
        )
        policies.follow(self.local)
        tasks = [asyncio.create_task(one.run()) for one in (self.local, namespaces, policies)]
        await self.settle()
        try:
            yield policies
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        for _ in range(4):
            await self.clock.advance(0.1)

    def passes(self, source: str, target: str, **more: Any) -> bool:
        return self.kernel.table.passes(Packet(source, target, **more))


@pytest.fixture
def scene() -> Scene:
    return Scene()


FRIENDS = policy("x", "p", ingress=[{"from": [{"podSelector": labelled(role="friend")}]}])


async def test_without_policies_for_pods_here_nothing_is_watched_or_written(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    scene.client.seed(NETWORKPOLICIES, policy("y", "p", ingress=[]))
    async with scene.running() as policies:
        assert not policies._cluster._tasks
    assert not scene.kernel.table.chains
    assert [text for text in scene.kernel.writes if "chain" in text] == []


async def test_a_label_costs_one_element(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    scene.put("x", "b", "10.0.0.2")
    for number in range(3, 50):
        scene.put("x", f"friend-{number}", f"10.0.0.{number}", role="friend")
    scene.client.seed(NETWORKPOLICIES, FRIENDS)
    async with scene.running():
        assert scene.passes("10.0.0.9", "10.0.0.1")
        assert not scene.passes("10.0.0.2", "10.0.0.1")
        scene.kernel.writes.clear()
        await scene.client.patch(PODS, "b", {"metadata": {"labels": {"role": "friend"}}}, "x")
        await scene.settle()
        assert scene.passes("10.0.0.2", "10.0.0.1")
        (written,) = scene.kernel.writes
        assert written.count("\n") == 1
        assert "10.0.0.2" in written
        await scene.client.patch(PODS, "b", {"metadata": {"annotations": {"a": "b"}}}, "x")
        await scene.settle()
        assert len(scene.kernel.writes) == 1, "what policies do not read changes nothing"


async def test_ended_and_deleted_pods_are_nobodys_peers(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    for number in (2, 3):
        scene.put("x", f"b{number}", f"10.0.0.{number}", role="friend")
    scene.client.seed(NETWORKPOLICIES, FRIENDS)
    async with scene.running():
        assert scene.passes("10.0.0.2", "10.0.0.1")
        await scene.client.patch(PODS, "b2", {"status": {"phase": "Succeeded"}}, "x", subresource="status")
        await scene.client.delete(PODS, "b3", "x", grace_seconds=0)
        await scene.settle()
        assert not scene.passes("10.0.0.2", "10.0.0.1")
        assert not scene.passes("10.0.0.3", "10.0.0.1")


async def test_labels_of_namespaces(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    scene.put("y", "b", "10.0.0.2")
    trusted = {"namespaceSelector": labelled(trusted="yes")}
    scene.client.seed(NETWORKPOLICIES, policy("x", "p", ingress=[{"from": [trusted]}]))
    async with scene.running():
        assert not scene.passes("10.0.0.2", "10.0.0.1")
        await scene.client.patch(NAMESPACES, "y", {"metadata": {"labels": {"trusted": "yes"}}})
        await scene.settle()
        assert scene.passes("10.0.0.2", "10.0.0.1")


async def test_a_pod_that_starts_is_isolated_before_its_status_says_its_address(scene: Scene) -> None:
    scene.client.seed(NETWORKPOLICIES, policy("x", "p", policyTypes=["Egress"]))
    async with scene.running() as policies:
        starting = pod("x", "a")
        starting["spec"]["nodeName"] = "here"
        stored = await scene.client.create(PODS, starting)
        scene.starting[uid(stored)] = stored
        await policies.admit(uid(stored), ["10.0.0.1"])
        assert not scene.passes("10.0.0.1", "192.0.2.1")
        policies.release(uid(stored))
        await scene.settle()
        assert scene.passes("10.0.0.1", "192.0.2.1")


async def test_a_pod_does_not_start_without_the_rules_it_needs(scene: Scene) -> None:
    scene.client.seed(NETWORKPOLICIES, policy("x", "p", labelled(app="a"), policyTypes=["Egress"]))
    async with scene.running() as policies:
        scene.kernel.fails = "no"
        for name, labels in (("a", {"app": "a"}), ("b", {})):
            made = pod("x", name, labels=labels)
            made["spec"]["nodeName"] = "here"
            scene.starting[name] = made
        with pytest.raises(PolicyError, match="network policy rules could not be written: no"):
            await policies.admit("a", ["10.0.0.1"])
        await policies.admit("b", ["10.0.0.2"])
        scene.kernel.fails = ""
        await policies.admit("a", ["10.0.0.1"])
        assert not scene.passes("10.0.0.1", "192.0.2.1")


async def test_a_pod_starts_with_its_rules_while_pods_are_told_of_once_more(scene: Scene) -> None:
    scene.client.seed(NETWORKPOLICIES, policy("x", "p", policyTypes=["Egress"]))
    scene.put("x", "old", "10.0.0.9", here=True)
    async with scene.running() as policies:
        again = Informer(scene.client, PODS, fields="spec.nodeName=here", clock=scene.clock)
        policies.follow(again)
        scene.starting["a"] = pod("x", "a")
        with patch("agents.policy.keeper.KNOWING_SECONDS", 0.05):
            await policies.admit("a", ["10.0.0.1"])
        assert not scene.passes("10.0.0.1", "192.0.2.1")
        assert not scene.passes("10.0.0.9", "192.0.2.1"), "what was known before stands meanwhile"
        scene.starting["b"] = pod("x", "b")
        waiting = asyncio.create_task(policies.admit("b", ["10.0.0.2"]))
        await asyncio.sleep(0)
        assert not waiting.done()
        told = asyncio.create_task(again.run())
        await scene.settle()
        await waiting
        assert not scene.passes("10.0.0.2", "192.0.2.1")
        await scene.client.delete(PODS, "old", "x", grace_seconds=0)
        await scene.settle()
        assert scene.passes("10.0.0.9", "192.0.2.1")
        told.cancel()


async def test_policies_are_kept_though_who_was_to_tell_of_pods_is_replaced_before_it_did(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    async with scene.running() as policies:
        assert scene.passes("10.0.0.2", "10.0.0.1")
        policies.follow(Informer(scene.client, PODS, fields="spec.nodeName=here", clock=scene.clock))
        await scene.settle()
        again = Informer(scene.client, PODS, fields="spec.nodeName=here", clock=scene.clock)
        policies.follow(again)
        told = asyncio.create_task(again.run())
        await scene.client.create(NETWORKPOLICIES, policy("x", "p", ingress=[]))
        await scene.settle()
        assert not scene.passes("10.0.0.2", "10.0.0.1")
        told.cancel()


async def test_what_the_kernel_refused_is_written_anew(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    async with scene.running():
        scene.kernel.fails = "busy"
        await scene.client.create(NETWORKPOLICIES, policy("x", "p", ingress=[]))
        await scene.settle()
        assert ("Node", "NetworkPolicyFailed") in scene.told.events
        scene.kernel.fails = ""
        await scene.clock.advance(20)
        assert not scene.passes("10.0.0.2", "10.0.0.1")


async def test_pods_wait_for_a_silent_server_but_not_for_ever(scene: Scene) -> None:
    scene.client.intercepts.append(_unreachable)
    scene.starting["a"] = pod("x", "a")
    async with scene.running() as policies:
        waiting = asyncio.create_task(policies.admit("a", ["10.0.0.1"]))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
    assert 1 <= KNOWING_SECONDS <= 10
    assert scene.kernel.writes == [], "rules of an agent before this one stay until it knows better"


def _unreachable(verb: str, *_: object) -> None:
    if verb == "list":
        raise ConnectionError


async def test_put_back_when_somebody_takes_it_away(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    scene.client.seed(NETWORKPOLICIES, policy("x", "p", ingress=[]))
    async with scene.running():
        scene.kernel.table.chains.clear()
        scene.kernel.generation += 1
        assert scene.passes("10.0.0.2", "10.0.0.1")
        await scene.clock.advance(HEAL_SECONDS)
        await scene.settle()
        assert not scene.passes("10.0.0.2", "10.0.0.1")


async def test_put_back_at_once_when_the_kernel_tells(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    stored = scene.client.seed(NETWORKPOLICIES, policy("x", "p", ingress=[]))
    async with scene.running():
        await scene.clock.advance(HEAL_SECONDS)
        await scene.clock.advance(HEAL_PAUSE_SECONDS)
        scene.kernel.table.chains.clear()
        scene.kernel.generation += 1
        scene.kernel.wake()
        await scene.clock.advance(0.2)
        assert not scene.passes("10.0.0.2", "10.0.0.1")
        # Who does it again and again gets an answer every second.
        scene.kernel.table.chains.clear()
        scene.kernel.generation += 1
        scene.kernel.wake()
        await scene.clock.advance(HEAL_PAUSE_SECONDS / 2)
        assert scene.passes("10.0.0.2", "10.0.0.1")
        await scene.clock.advance(HEAL_PAUSE_SECONDS)
        assert not scene.passes("10.0.0.2", "10.0.0.1")
        await scene.client.delete(NETWORKPOLICIES, stored["metadata"]["name"], "x")
        await scene.settle()
        assert scene.kernel.wake is _nobody, "without policies nobody listens"


async def test_a_host_that_cannot_says_so(scene: Scene) -> None:
    scene.kernel.cannot = "nft is not installed"
    scene.put("x", "a", "10.0.0.1", here=True)
    scene.client.seed(NETWORKPOLICIES, policy("x", "p", ingress=[]))
    scene.client.seed(NETWORKPOLICIES, policy("y", "q", ingress=[]))
    scene.starting["u"] = pod("x", "late")
    async with scene.running() as policies:
        await policies.admit("u", ["10.0.0.5"])
        await scene.settle()
    assert scene.told.events.count(("Node", "NetworkPolicyNotEnforced")) == 1
    assert scene.told.events.count(("NetworkPolicy", "NetworkPolicyNotEnforced")) == 1, "the one of pods here"
    assert scene.kernel.writes == []


async def test_the_last_policy_takes_everything_with_it(scene: Scene) -> None:
    scene.put("x", "a", "10.0.0.1", here=True)
    stored = scene.client.seed(NETWORKPOLICIES, FRIENDS)
    async with scene.running() as policies:
        assert policies._cluster._tasks
        await scene.client.delete(NETWORKPOLICIES, stored["metadata"]["name"], "x")
        await scene.settle()
        assert scene.kernel.table.chains == {}
        await scene.clock.advance(LINGER_SECONDS)
        policies._cluster.tidy()
        assert not policies._cluster._tasks
