"""A host of the lab whose agent dies at the step it is told, and what may be left of a pod on it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agents.network.wiring import link_name
from orca.api.builtin import PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.http import HttpsClient
from orca.lab import host as hosts
from orca.lab.layout import Host
from orca.lab.services import AGENT
from tests.support.agents import wait_for_rules
from tests.support.patience import PATIENCE

REPOSITORY = Path(__file__).parents[2]


@dataclass(slots=True)
class StepHost:
    """Its agent is started by ``agent``; the API is asked through ``client``."""

    host: Host
    client: HttpsClient
    directory: Path
    argv: list[str]
    process: subprocess.Popen[bytes] | None = None

    async def start_agent(self) -> None:
        """Returns when it is ready to count steps."""
        self._spawn()
        await self.true((self.directory / "ready").exists, "the agent runs")

    def _spawn(self) -> None:
        (self.directory / "ready").unlink(missing_ok=True)
        command = [*hosts.enter(self.host), sys.executable, "-m", "tests.cluster.stepwise_agent", str(self.directory)]
        with self.host.log(AGENT).open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                start_new_session=True,
            )

    async def arm(self, target: int) -> None:
        """Count from now on, and die at step ``target``; 0 for never."""
        await self.revive()  # the last steps of a pod may come when nobody looks any more
        (self.directory / "steps").unlink(missing_ok=True)
        (self.directory / "target.new").write_text(str(target))
        (self.directory / "target.new").replace(self.directory / "target")
        await self.true((self.directory / "steps").exists, "the agent counts")

    def stop_agent(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def steps(self) -> list[str]:
        """What the agent has done since it was armed, oldest first."""
        try:
            return [line.partition(" ")[2] for line in (self.directory / "steps").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @property
    def died(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    async def revive(self) -> bool:
        """Start the next agent when this one has died."""
        if not self.died:
            return False
        assert self.process is not None
        assert self.process.returncode == -signal.SIGKILL, self.host.log(AGENT).read_text()[-2000:]
        await self.start_agent()
        return True

    async def pod(self, name: str) -> Obj | None:
        try:
            return await self.client.get(PODS, name, "default")
        except ApiError:
            return None

    async def until(self, name: str, true: Callable[[Obj | None], object], *, seconds: float = PATIENCE) -> Obj | None:
        """The pod (None once it is gone) when ``true`` of it; agents that die meanwhile are followed by others."""
        deadline = time.monotonic() + seconds
        while True:
            found = await self.pod(name)
            if true(found):
                return found
            await self.revive()
            if time.monotonic() > deadline:
                log = self.host.log(AGENT).read_text()[-3000:]
                raise AssertionError(f"{name}: {json.dumps((found or {}).get('status'))}\n{log}")
            await asyncio.sleep(0.05)

    async def nothing_left(self, uid: str, *, seconds: float = PATIENCE) -> None:
        """Returns once nothing on the host names the pod; an agent that dies is followed by another."""
        deadline = time.monotonic() + seconds
        while left := left_of(self.host, uid):
            await self.revive()
            assert time.monotonic() < deadline, f"{left}\n{self.host.log(AGENT).read_text()[-3000:]}"
            await asyncio.sleep(0.05)

    async def true(self, what: Callable[[], object], text: str, *, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline or (self.process is not None and self.died):
                raise AssertionError(f"not so: {text}\n{self.host.log(AGENT).read_text()[-3000:]}")
            await asyncio.sleep(0.02)


def containers(host: Host, uid: str) -> list[str]:
    """Names of a pod's containers in the host's engine, running or not."""
    argv = ("ps", "-a", "--no-trunc", "--filter", f"label=io.kubernetes.pod.uid={uid}", "--format", "{{.Names}}")
    return hosts.call(host, "docker", *argv).split()


def left_of(host: Host, uid: str) -> dict[str, list[str]]:
    """Everything on the host that names the pod: containers, files, mounts, addresses, links, cgroups."""
    root = hosts.root(host)
    agent = root / "var/lib/orca-agent"
    addresses = agent / "network/addresses.json"
    leases = json.loads(addresses.read_text())["pods"] if addresses.exists() else {}
    mounts = Path(f"/proc/{(host.state / 'pid/holder').read_text().strip()}/mountinfo").read_text()
    search = ["find", "/sys/fs/cgroup", "-name", f"*{uid}*"]
    groups = subprocess.run(search, capture_output=True, text=True, check=False)
    found = {
        "containers": containers(host, uid),
        "files": [str(path) for path in agent.glob(f"*/{uid}*")],
        "mounts": [line.split()[4] for line in mounts.splitlines() if uid in line],
        "addresses": [uid] if uid in leases else [],
        "links": _strange_links(host, set(leases)),
        "cgroups": groups.stdout.split(),
    }
    return {what: items for what, items in found.items() if items}


def _strange_links(host: Host, uids: set[str]) -> list[str]:
    """Ends of pods' cables that belong to no pod that has an address."""
    told = json.loads(hosts.call(host, "ip", "-j", "link", "show", "type", "veth"))
    known = {link_name(uid) for uid in uids} | {"eth0", host.link}
    return [one["ifname"] for one in told if one["ifname"] not in known]


def _arguments(pid: int) -> list[str]:
    """Those of a Python program that runs."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[2:-1]


@asynccontextmanager
async def step_host(host: Host, directory: Path) -> AsyncIterator[StepHost]:
    """The host with such an agent in place of its own, which comes back afterwards."""
    argv = _arguments(hosts.service_pid(host, AGENT))
    client = HttpsClient.from_kubeconfig(host.lab.kubeconfig)
    hosts.stop_service(host, AGENT)
    made = StepHost(host, client, directory, argv)
    try:
        await made.start_agent()
        yield made
    finally:
        made.stop_agent()
        await client.aclose()
        shutil.rmtree(directory, ignore_errors=True)
        hosts.start_service(host, hosts.Service(AGENT, (str(Path(sys.executable).parent / "orca-agent"), *argv)))
        await asyncio.to_thread(wait_for_rules, host)
