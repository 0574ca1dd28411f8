"""The Node object and what is told of it, over the fake API and in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.node import csinode, model
from agents.node.addresses import OwnAddresses
from agents.node.facts import HostFacts, most_processes, read_facts
from agents.node.model import Image, NodeOptions, Observation
from agents.node.status import NodeReporter
from orca.api.builtin import CSINODES, NODES
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient

OPTIONS = NodeOptions(
    name="host-1",
    addresses=("172.30.0.11",),
    version="v1.36.0+orca.0.1.0",
    labels={"zone": "a"},
    taints=(("dedicated", "x", "NoSchedule"),),
)
FACTS = HostFacts(
    cpus=2,
    memory=8 << 30,
    disk=100 << 30,
    huge_pages=(("hugepages-2Mi", 0),),
    machine_id="m",
    system_uuid="s",
    boot_id="b",
    kernel="6.1",
    os_image="Debian",
    architecture="amd64",
)
PRESSURE = ("MemoryPressure", "DiskPressure", "PIDPressure")
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def observation(problems: Sequence[str] = (), pressure: Sequence[str] = ()) -> Observation:
    images = [Image(("busybox:latest",), 5)]
    return Observation(engine="docker://20.10.24", images=images, problems=problems, pressure=pressure)


def test_a_new_node_says_what_the_host_is() -> None:
    node = model.new_node(OPTIONS, FACTS, observation(), NOW)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "host-1"
    assert node["metadata"]["labels"]["zone"] == "a"
    assert node["spec"]["taints"] == [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]
    status = node["status"]
    assert status["capacity"] == {
        "cpu": "2",
        "ephemeral-storage": "104857600Ki",
        "hugepages-2Mi": "0",
        "memory": "8388608Ki",
        "pods": "110",
    }
    assert status["allocatable"]["memory"] == "8286208Ki"
    assert status["addresses"] == [
        {"type": "InternalIP", "address": "172.30.0.11"},
        {"type": "Hostname", "address": "host-1"},
    ]
    assert status["nodeInfo"]["containerRuntimeVersion"] == "docker://20.10.24"
    assert {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]} == {
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
        "Ready": ("True", "KubeletReady"),
    }


def test_disk_is_not_handed_out_where_its_use_is_not_isolated() -> None:
    shared = model.new_node(dataclasses.replace(OPTIONS, local_storage=False), FACTS, observation(), NOW)["status"]
    assert "ephemeral-storage" not in {*shared["capacity"], *shared["allocatable"]}
    assert shared["allocatable"]["memory"] == "8286208Ki"


def test_conditions_remember_when_they_changed_and_leave_those_of_others() -> None:
    foreign = {"type": "NetworkUnavailable", "status": "False", "reason": "RouteCreated"}
    first = model.conditions([foreign], observation(), NOW)
    later = NOW + datetime.timedelta(minutes=1)
    second = {c["type"]: c for c in model.conditions(first, observation(["a", "b"], PRESSURE), later)}
    assert second["NetworkUnavailable"] == foreign
    assert second["Ready"]["message"] == "[a, b]"
    assert second["Ready"]["lastTransitionTime"] == "2026-01-01T00:01:00Z"
    assert [second[kind]["status"] for kind in PRESSURE] == ["True"] * 3
    third = {c["type"]: c for c in model.conditions(list(second.values()), observation(["a"], PRESSURE), NOW)}
    assert third["Ready"]["lastTransitionTime"] == "2026-01-01T00:01:00Z"


def test_a_node_says_what_its_configuration_says() -> None:
    options = dataclasses.replace(OPTIONS, max_pods=50, pods_per_core=10, provider_id="metal://1")
    node = model.new_node(options, dataclasses.replace(FACTS, swap=1 << 30), observation(), NOW)
    assert node["spec"]["providerID"] == "metal://1"
    assert node["status"]["capacity"]["pods"] == node["status"]["allocatable"]["pods"] == "20"
    assert node["status"]["nodeInfo"]["swap"] == {"capacity": 1 << 30}
    assert model.most_pods(dataclasses.replace(options, pods_per_core=40), FACTS) == 50


def test_extended_resources_of_others_stay() -> None:
    previous = model.status(OPTIONS, FACTS, observation(), previous={}, now=NOW)
    previous["capacity"]["example.com/dongle"] = "4"
    again = model.status(OPTIONS, FACTS, observation(), previous=previous, now=NOW)
    assert again["capacity"]["example.com/dongle"] == "4"
    assert again["allocatable"]["example.com/dongle"] == "4"
    assert model.status(OPTIONS, FACTS, observation(), previous=again, now=NOW) == again
    again["capacity"]["example.com/dongle"] = "2"
    fewer = model.status(OPTIONS, FACTS, observation(), previous=again, now=NOW)
    assert fewer["allocatable"]["example.com/dongle"] == "2"
    del again["capacity"]["example.com/dongle"]
    none = model.status(OPTIONS, FACTS, observation(), previous=again, now=NOW)
    assert "example.com/dongle" not in none["allocatable"]


def test_this_host_can_be_read(tmp_path: Path) -> None:
    facts = read_facts(tmp_path)
    assert facts.cpus > 0
    assert facts.memory > 0
    assert facts.boot_id
    assert most_processes() > 100


@pytest.mark.parametrize(
    ("text", "taint"), [("a=b:NoSchedule", ("a", "b", "NoSchedule")), ("x/y:NoExecute", ("x/y", "", "NoExecute"))]
)
def test_taints(text: str, taint: tuple[str, str, str]) -> None:
    assert model.parse_taint(text) == taint


@pytest.mark.parametrize("text", ["a", "a:Never", ":NoSchedule"])
def test_bad_taints(text: str) -> None:
    with pytest.raises(ValueError, match="invalid taint"):
        model.parse_taint(text)


class Engine:
    """An engine that can be taken down."""

    def __init__(self) -> None:
        self.up = True

    async def version(self) -> str:
        if not self.up:
            raise OSError("connection refused")
        return "20.10.24"

    async def images(self) -> list[Image]:
        return [Image(("busybox:latest",), 5)]

    async def runtimes(self) -> tuple[str, ...]:
        return "nvidia", "runc"


class Host:
    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        self.client = FakeClient(clock=self.clock)
        self.engine = Engine()
        self.pressure: tuple[str, ...] | None = ()
        self.told: list[tuple[str, str]] = []
        self.root = root
        self.problem: str | None = ""
        self.addresses: OwnAddresses | None = None
        self.reporter = self.started()

    def started(self) -> NodeReporter:
        """What a new process of the agent has."""
        return NodeReporter(
            self.client,
            OPTIONS,
            root=self.root,
            clock=self.clock,
            engine_version=self.engine.version,
            images=self.engine.images,
            runtimes=self.engine.runtimes,
            problems=[lambda: self.problem],
            pressure=lambda: self.pressure,
            tell=lambda warning, reason, message: self.told.append((reason, message)),
            addresses=self.addresses,
        )

    def condition(self, kind: str) -> tuple[str, str, str]:
        conditions = self.client.objects(NODES)[0]["status"]["conditions"]
        found = next(c for c in conditions if c["type"] == kind)
        return found["status"], found["reason"], found["message"]

    def ready(self) -> tuple[str, str, str]:
        return self.condition("Ready")

    def handlers(self) -> list[str]:
        return [one["name"] for one in self.client.objects(NODES)[0]["status"]["runtimeHandlers"]]

    def status_writes(self) -> int:
        return len([call for call in self.client.calls if call[1] == "nodes/status"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_a_host_that_gets_another_address_says_so(host: Host) -> None:
    def told() -> list[str]:
        return [one["address"] for one in host.client.objects(NODES)[0]["status"]["addresses"]]

    heard: list[tuple[str, ...]] = []
    found = OPTIONS.addresses[0]
    host.addresses = OwnAddresses("", lambda: "192.0.2.1", find=lambda server: found)
    host.addresses.on_change(heard.append)
    host.reporter = host.started()
    await host.reporter.report()
    assert told()[0] == OPTIONS.addresses[0]
    found = "172.30.0.99"
    await host.reporter.report()
    assert told()[:-1] == ["172.30.0.99"]
    assert heard == [("172.30.0.99",)]
    found = ""
    await host.reporter.report()
    assert told()[:-1] == ["172.30.0.99"], "one that reaches nobody keeps what it had"
    chosen = OwnAddresses("192.0.2.9,fd00::9", lambda: "192.0.2.1", find=lambda server: "172.30.0.99")
    assert await chosen.look() == ("192.0.2.9", "fd00::9"), "what the flag says counts"


async def test_an_extended_resource_can_be_asked_for_until_it_is_taken_away(host: Host) -> None:
    def left() -> str:
        return str(host.client.objects(NODES)[0]["status"]["allocatable"].get("example.com/dongle"))

    await host.reporter.report()
    for amount in ("4", "2", None):
        change = {"status": {"capacity": {"example.com/dongle": amount}}}
        await host.client.patch(NODES, OPTIONS.name, change, kind="strategic", subresource="status")
        await host.reporter.report()
        assert left() == str(amount)
        assert left() == str(host.client.objects(NODES)[0]["status"]["capacity"].get("example.com/dongle"))


async def test_changes_are_told_in_events_as_the_kubelet_tells_them(host: Host) -> None:
    await host.reporter.report()
    assert {reason for reason, _ in host.told} == {
        "NodeHasSufficientMemory",
        "NodeHasNoDiskPressure",
        "NodeHasSufficientPID",
    }
    host.told.clear()
    host.pressure = ("DiskPressure",)
    await host.reporter.report()
    await host.reporter.report()
    assert host.told == [("NodeHasDiskPressure", "Node host-1 status is now: NodeHasDiskPressure")]
    host.told.clear()
    host.pressure = ()
    await host.reporter.report()
    assert [reason for reason, _ in host.told] == ["NodeHasNoDiskPressure"]


async def test_start_cordon_and_reboot_are_told_in_events(host: Host) -> None:
    running = asyncio.create_task(host.reporter.run())
    await host.clock.advance(1)
    assert host.told[0] == ("Starting", "Starting kubelet.")
    host.told.clear()
    await host.client.patch(NODES, "host-1", {"spec": {"unschedulable": True}}, kind="merge")
    await host.clock.advance(20)
    await host.client.patch(NODES, "host-1", {"spec": {"unschedulable": None}}, kind="merge")
    await host.clock.advance(20)
    assert host.told == [
        ("NodeNotSchedulable", "Node host-1 status is now: NodeNotSchedulable"),
        ("NodeSchedulable", "Node host-1 status is now: NodeSchedulable"),
    ]
    host.told.clear()
    node = await host.client.get(NODES, "host-1")
    boot = node["status"]["nodeInfo"]["bootID"]
    earlier = {"status": {"nodeInfo": {"bootID": "the boot before"}}}
    await host.client.patch(NODES, "host-1", earlier, kind="merge", subresource="status")
    await host.clock.advance(10)
    assert host.told == [("Rebooted", f"Node host-1 has been rebooted, boot id: {boot}")]
    running.cancel()


async def test_pressure_is_told_and_stays_as_told_until_the_first_look_of_another_agent(host: Host) -> None:
    host.pressure = ("DiskPressure",)
    await host.reporter.report()
    await host.reporter.report()
    assert host.condition("DiskPressure") == ("True", "KubeletHasDiskPressure", "kubelet has disk pressure")
    host.pressure = None
    await host.reporter.report()
    assert host.condition("DiskPressure")[0] == "True"
    assert host.condition("MemoryPressure")[0] == "False"
    host.pressure = ()
    await host.reporter.report()
    assert host.condition("DiskPressure") == ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")


async def test_a_ready_node_stays_so_while_another_agent_starts_but_not_for_ever(host: Host) -> None:
    await host.reporter.report()
    host.problem, again = None, host.started()
    running = asyncio.create_task(again.run())
    await host.clock.advance(1)
    again.poke()
    await host.clock.advance(20)
    assert host.ready()[0] == "True"
    await host.clock.advance(20)
    assert host.ready()[:2] == ("False", "KubeletNotReady")
    host.problem = ""
    again.poke()
    await host.clock.advance(1)
    assert host.ready()[0] == "True"
    running.cancel()


async def test_a_node_stays_ready_when_its_network_comes_up_in_the_middle_of_a_look(host: Host) -> None:
    await host.reporter.report()
    again, answers = host.started(), [None, "", ""]
    again._problems = [lambda: answers.pop(0) if answers else ""]
    await again.report()
    assert host.ready()[0] == "True"
    assert not any(reason == "NodeNotReady" for reason, _ in host.told)


async def test_the_status_is_written_when_it_changes_and_every_five_minutes(host: Host) -> None:
    running = asyncio.create_task(host.reporter.run())
    await host.clock.advance(295)
    assert host.ready()[:2] == ("True", "KubeletReady")
    assert host.status_writes() == 0
    await host.clock.advance(20)
    assert host.status_writes() == 1
    host.engine.up = False
    await host.clock.advance(20)
    assert host.ready()[:2] == ("True", "KubeletReady"), "an engine may be restarted"
    await host.clock.advance(20)
    assert host.ready() == ("False", "KubeletNotReady", "container runtime is down")
    assert host.status_writes() == 2
    assert host.handlers() == ["", "nvidia", "runc"], "what is down has not lost its runtimes"
    host.engine.up = True
    host.reporter.poke()
    await host.clock.settle()
    assert host.ready()[:2] == ("True", "KubeletReady")
    running.cancel()


async def test_a_node_that_was_removed_registers_again(host: Host) -> None:
    running = asyncio.create_task(host.reporter.run())
    await host.clock.advance(1)
    await host.client.delete(NODES, "host-1")
    await host.clock.advance(310)
    assert [node["metadata"]["name"] for node in host.client.objects(NODES)] == ["host-1"]
    running.cancel()


async def test_a_node_has_a_csinode_of_its_own_whoever_refuses_it_at_first(host: Host) -> None:
    refused = ["no"]

    def refuses(verb: str, resource: Resource, key: str, subresource: str) -> None:
        if refused and resource is CSINODES:
            raise ApiError(500, "InternalError", refused.pop())

    host.client.intercepts.append(refuses)
    running = asyncio.create_task(host.reporter.run())
    await host.clock.advance(1)
    assert host.ready()[0] == "True"
    assert not host.client.objects(CSINODES)
    await host.clock.advance(15)
    (first,) = host.client.objects(CSINODES)
    assert first["spec"] == {"drivers": []}
    assert first["metadata"]["annotations"][csinode.MIGRATED].startswith("kubernetes.io/aws-ebs,")
    # What a Node of before has left is taken over, before it is collected.
    await host.client.delete(NODES, "host-1")
    await host.clock.advance(30)
    (node,), (second,) = host.client.objects(NODES), host.client.objects(CSINODES)
    assert [one["uid"] for one in second["metadata"]["ownerReferences"]] == [node["metadata"]["uid"]]
    assert node["metadata"]["uid"] != first["metadata"]["ownerReferences"][0]["uid"]
    running.cancel()


async def test_a_node_that_exists_keeps_its_taints_and_gets_its_labels(host: Host) -> None:
    host.client.seed(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "host-1"}, "spec": {}})
    await host.reporter.report()
    node = host.client.objects(NODES)[0]
    assert "taints" not in node["spec"]
    assert node["metadata"]["labels"]["kubernetes.io/arch"]
    assert node["status"]["capacity"]["pods"] == "110"
