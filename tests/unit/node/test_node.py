"""The Node object, its heartbeat and its certificates, over the fake API and in virtual time."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.node import certificates, keys, model
from agents.node.facts import HostFacts, most_processes, read_facts
from agents.node.join import JoinError, JoinToken, ca_of_cluster_info
from agents.node.keyring import CLIENT, SERVING, Keyring
from agents.node.lease import LeaseHeart
from agents.node.model import Image, NodeOptions, Observation
from agents.node.requesting import Prepared
from agents.node.signing import CertificateRefused, Rotation
from agents.node.status import NodeReporter
from agents.node.supervise import Supervisor
from orca.api import errors
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, LEASES, NODES
from orca.api.objects import Obj
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


class Host:
    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        self.client = FakeClient(clock=self.clock)
        self.engine = Engine()
        self.pressure: tuple[str, ...] | None = ()
        self.told: list[tuple[str, str]] = []
        self.root = root
        self.problem: str | None = ""
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
            problems=[lambda: self.problem],
            pressure=lambda: self.pressure,
            tell=lambda warning, reason, message: self.told.append((reason, message)),
        )

    def condition(self, kind: str) -> tuple[str, str, str]:
        conditions = self.client.objects(NODES)[0]["status"]["conditions"]
        found = next(c for c in conditions if c["type"] == kind)
        return found["status"], found["reason"], found["message"]

    def ready(self) -> tuple[str, str, str]:
        return self.condition("Ready")

    def status_writes(self) -> int:
        return len([call for call in self.client.calls if call[1] == "nodes/status"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


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


async def test_a_node_that_exists_keeps_its_taints_and_gets_its_labels(host: Host) -> None:
    host.client.seed(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "host-1"}, "spec": {}})
    await host.reporter.report()
    node = host.client.objects(NODES)[0]
    assert "taints" not in node["spec"]
    assert node["metadata"]["labels"]["kubernetes.io/arch"]
    assert node["status"]["capacity"]["pods"] == "110"


async def test_the_lease_is_renewed_every_ten_seconds_whatever_happens_to_it() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    node = client.seed(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "host-1"}})
    running = asyncio.create_task(LeaseHeart(client, "host-1", clock=clock).run())
    await clock.advance(25)

    def lease() -> Obj:
        return client.objects(LEASES)[0]

    assert lease()["spec"]["renewTime"] == "2026-01-01T00:00:20.000000Z"
    assert lease()["spec"]["leaseDurationSeconds"] == 40
    assert lease()["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
    await client.delete(LEASES, "host-1", "kube-node-lease")
    await clock.advance(10)
    assert lease()["spec"]["renewTime"] > "2026-01-01T00:00:29"
    outage = [True]

    def fail(verb: str, *rest: object) -> None:
        if outage:
            raise errors.service_unavailable("down")

    client.intercepts.append(fail)
    await clock.advance(30)
    outage.clear()
    await clock.advance(1.5)
    assert lease()["spec"]["renewTime"] > "2026-01-01T00:01:04"
    running.cancel()


def authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + datetime.timedelta(days=3650))
    return key, builder.sign(key, hashes.SHA256())


async def sign_all(client: FakeClient, clock: VirtualClock) -> None:
    """A signer: what `orca.controllers` does."""
    key, ca = authority()
    async with client.watch(CERTIFICATESIGNINGREQUESTS) as events:
        async for event in events:
            if event.type != "ADDED":
                continue
            request = x509.load_pem_x509_csr(base64.b64decode(event.obj["spec"]["request"]))
            builder = x509.CertificateBuilder().subject_name(request.subject).issuer_name(ca.subject)
            builder = builder.public_key(request.public_key()).serial_number(x509.random_serial_number())
            builder = builder.not_valid_before(clock.now()).not_valid_after(clock.now() + datetime.timedelta(days=10))
            for extension in request.extensions:
                builder = builder.add_extension(extension.value, extension.critical)
            issued = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            await client.patch(
                CERTIFICATESIGNINGREQUESTS,
                event.obj["metadata"]["name"],
                {"status": {"certificate": base64.b64encode(issued).decode()}},
                subresource="status",
            )


async def prepare(key: bytes, node_name: str, names: Sequence[str]) -> Prepared:
    """What another process does, here: virtual time waits for none."""
    key = key or keys.new_key()
    return Prepared(key, keys.new_request(key, node_name, names), keys.public_key(key))


async def test_a_certificate_is_asked_for_kept_and_renewed(tmp_path: Path) -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    signer = asyncio.create_task(sign_all(client, clock))
    keyring = Keyring(tmp_path / "pki")
    renewals: list[int] = []
    names = ("host-1", "172.30.0.11")
    rotation = Rotation(
        client,
        keyring,
        kind=SERVING,
        node_name="host-1",
        clock=clock,
        names=names,
        on_renewed=lambda: renewals.append(1),
        prepare=prepare,
    )
    running = asyncio.create_task(rotation.run())
    await clock.advance(5)
    facts = keyring.certificate(SERVING)
    assert facts
    assert facts.names == set(names)
    assert keyring.pair(SERVING).stat().st_mode & 0o777 == 0o600
    request = client.objects(CERTIFICATESIGNINGREQUESTS)[0]
    assert request["spec"]["usages"] == ["digital signature", "server auth"]
    await clock.advance(6.9 * 86400)
    assert len(renewals) == 1
    await clock.advance(2.2 * 86400)
    assert len(renewals) == 2
    # Another name needs another certificate, at once.
    moved = Rotation(client, keyring, kind=SERVING, node_name="host-1", clock=clock, names=("host-1", "172.30.0.99"))
    assert moved.due_in() == 0
    running.cancel()
    signer.cancel()


async def test_a_denied_request_is_told_and_asked_anew_with_another_key(tmp_path: Path) -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    keyring = Keyring(tmp_path / "pki")
    rotation = Rotation(client, keyring, kind=CLIENT, node_name="host-1", clock=clock, prepare=prepare)
    asking = asyncio.create_task(rotation.ensure())
    await clock.settle()
    first = client.objects(CERTIFICATESIGNINGREQUESTS)[0]["metadata"]["name"]
    denied = {"status": {"conditions": [{"type": "Denied", "status": "True", "message": "not you"}]}}
    await client.patch(CERTIFICATESIGNINGREQUESTS, first, denied, subresource="status")
    with pytest.raises(CertificateRefused, match="not you"):
        await asking
    again = asyncio.create_task(rotation.ensure())
    await clock.settle()
    assert len(client.objects(CERTIFICATESIGNINGREQUESTS)) == 2
    again.cancel()


def test_join_tokens() -> None:
    text = f"abcdef.0123456789abcdef.{'a' * 64}"
    assert JoinToken.parse(text + "\n").bearer == "abcdef.0123456789abcdef"
    for bad in ("", "abcdef.0123456789abcdef", text[:-1], text.upper()):
        with pytest.raises(JoinError):
            JoinToken.parse(bad)


def test_the_ca_is_found_in_both_forms_of_cluster_info() -> None:
    _, certificate = authority()
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    encoded = base64.b64encode(pem).decode()
    kubeconfig = f"clusters: [{{name: '', cluster: {{certificate-authority-data: {encoded}}}}}]"
    assert ca_of_cluster_info({"data": {"kubeconfig": kubeconfig}}) == pem
    assert ca_of_cluster_info({"data": {"ca.crt": pem.decode()}}) == pem
    assert list(certificates.certificates_by_key(pem).values()) == [pem]
    with pytest.raises(JoinError):
        ca_of_cluster_info({"data": {}})


async def test_a_part_that_fails_starts_again_and_the_others_go_on() -> None:
    clock = VirtualClock()
    parts = Supervisor(clock)
    starts: list[float] = []
    beats: list[float] = []

    async def broken() -> None:
        starts.append(clock.monotonic())
        raise RuntimeError("on purpose")

    async def steady() -> None:
        while True:
            beats.append(clock.monotonic())
            await clock.sleep(1)

    parts.add("broken", broken)
    parts.add("steady", steady)
    await clock.advance(10)
    assert starts == [0, 0.5, 1.5, 3.5, 7.5]
    assert len(beats) == 11
    await parts.stop()
    assert len(beats) == 11


async def test_a_host_that_announces_renews_its_lease_every_two_seconds() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    heart = LeaseHeart(client, "host-1", clock=clock)
    running = asyncio.create_task(heart.run())

    async def beats_within(seconds: int) -> int:
        found = set()
        for _ in range(seconds * 10):
            await clock.advance(0.1)
            found.add((await client.get(LEASES, "host-1", "kube-node-lease"))["spec"]["renewTime"])
        return len(found) - 1

    await clock.advance(5)
    heart.hurry(True)
    assert 4 <= await beats_within(10) <= 6
    assert heart.silent_seconds <= 2
    heart.hurry(False)
    await clock.advance(2)
    assert await beats_within(20) == 2
    running.cancel()
