"""A host whose pods come from a real server and are looked at with kubectl: the agent's pods room in this process, on a
private engine, with the node's status."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents.config import Configuration
from agents.images.keeping import ImageKeeping
from agents.node.model import Image, NodeOptions
from agents.node.status import NodeReporter
from agents.pods import PodManager, PodsConfig
from agents.runtime import Runtime
from orca.api.objects import Obj
from orca.client.clock import SystemClock
from orca.client.events import EventRecorder
from orca.client.http import HttpsClient
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.engine import PrivateEngine
from tests.support.kubectl import Kubectl
from tests.support.patience import PATIENCE
from tests.support.pods import FakeVolumes, HostNetwork

NODE = "host-t"
WAITING = "{.status.containerStatuses[0].state.waiting.message}"


class ApiHost:
    """``kubectl`` runs beside the agent; ``until`` waits for what it shows."""

    def __init__(self, engine: PrivateEngine, server: ServerProcess, root: Path) -> None:
        self.engine = engine
        self.root = root
        self.binary = Kubectl(kubectls.current(), server.kubeconfig)
        self.clock = SystemClock()
        self.client = HttpsClient.from_kubeconfig(server.kubeconfig, agent="test", clock=self.clock)
        self.runtime = Runtime(str(engine.socket))
        self.told: list[tuple[str, str]] = []
        """Reason and message of warnings about the node."""
        self.images: ImageKeeping
        self.manager: PodManager
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self, configuration: Configuration | None = None) -> None:
        self.images = ImageKeeping(
            configuration or Configuration(),
            root=self.root,
            runtime=self.runtime,
            pause_image="orca/pause:1",
            clock=self.clock,
            wanted=lambda: self.manager.wanted_images(),
            tell=lambda reason, message: self.told.append((reason, message)),
            changed=lambda: reporter.poke(),
        )

        async def version() -> str:
            return str((await self.runtime.engine.call("GET", "/version"))["Version"])

        async def images() -> list[Image]:
            return [Image((*one.digests, *one.tags), one.size) for one in await self.images.catalogue.images()]

        async def runtimes() -> tuple[str, ...]:
            return (await self.runtime.abilities()).runtimes

        options = NodeOptions(NODE, ("192.0.2.10",), "v1.36.0")
        reporter = NodeReporter(
            self.client,
            options,
            root=self.root,
            clock=self.clock,
            engine_version=version,
            images=images,
            runtimes=runtimes,
        )
        self.manager = PodManager(
            client=self.client,
            runtime=self.runtime,
            network=HostNetwork(self.engine.netns),
            volumes=FakeVolumes(self.root / "volumes"),
            recorder=EventRecorder(self.client, "kubelet", NODE, clock=self.clock),
            config=PodsConfig(NODE, ("192.0.2.10",), root=self.root),
            images=self.images.services,
        )
        parts = (reporter.run, self.images.catalogue.run, self.manager.run)
        self._tasks = [asyncio.create_task(part()) for part in parts]

    async def stop(self) -> None:
        """As abruptly as a crash, seen from outside."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.stop()
        await self.images.services.puller.aclose()
        for info in await self.runtime.inspect_all():
            await self.runtime.remove(info.id)
        await self.runtime.aclose()
        await self.client.aclose()

    async def kubectl(self, *argv: str, stdin: str | None = None) -> str:
        """What kubectl prints; the agent goes on meanwhile."""
        return await asyncio.to_thread(self.binary, *argv, stdin=stdin)

    async def until(self, what: str, seen: Callable[[str], Any], *argv: str, seconds: float = PATIENCE) -> str:
        """Output of kubectl once ``seen`` of it. Raises AssertionError with the last."""
        text = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    text = await self.kubectl(*argv)
                    if seen(text):
                        return text
                    await asyncio.sleep(0.1)
        events = await self.kubectl("get", "events", "--sort-by=.lastTimestamp")
        raise AssertionError(f"not seen: {what}\n{text}\n{events}")

    async def shows(self, pod: str, text: str, *, seconds: float = PATIENCE) -> str:
        """Until ``kubectl get pod`` shows a status."""
        return await self.until(
            text, lambda line: text in line.split(), "get", "pod", pod, "--no-headers", seconds=seconds
        )

    async def no_container_is_left(self, *, seconds: float = PATIENCE) -> None:
        deadline = self.clock.monotonic() + seconds
        while left := [info.name for info in await self.runtime.inspect_all()]:
            assert self.clock.monotonic() < deadline, left
            await asyncio.sleep(0.05)

    async def waiting(self, pod: str) -> str:
        """Message of the container's waiting state."""
        return await self.kubectl("get", "pod", pod, "-o", f"jsonpath={WAITING}")

    async def says(self, pod: str, *texts: str) -> None:
        """Until one of the texts is in that message, which changes between a try and the next."""
        argv = ("get", "pod", pod, "-o", f"jsonpath={WAITING}")
        await self.until(" or ".join(texts), lambda said: any(text in said for text in texts), *argv)

    async def events(self, pod: str) -> list[tuple[str, str, str]]:
        """Type, reason and message of a pod's events."""
        path = "{range .items[*]}{.type}\t{.reason}\t{.message}\n{end}"
        text = await self.kubectl(
            "get", "events", f"--field-selector=involvedObject.name={pod}", "-o", f"jsonpath={path}"
        )
        return [tuple(line.split("\t", 2)) for line in text.splitlines()]  # type: ignore[misc]

    async def tells(self, pod: str, *wanted: tuple[str, str, str], seconds: float = PATIENCE) -> None:
        """Until the pod has events of these types and reasons, with a message that is all that expression: events come
        a little later than what they are about. Raises AssertionError with those there are."""
        deadline = self.clock.monotonic() + seconds
        while True:
            told = await self.events(pod)
            missing = [
                one for one in wanted if not any(one[:2] == it[:2] and re.fullmatch(one[2], it[2]) for it in told)
            ]
            if not missing:
                return
            assert self.clock.monotonic() < deadline, (missing, told)
            await asyncio.sleep(0.1)


def manifest(name: str, image: str, **spec: Any) -> Obj:
    """A pod bound to the host that sleeps; ``policy`` is its pull policy."""
    container = {"name": "c", "image": image, "command": ["/bin/busybox", "sleep", "3600"]}
    if policy := spec.pop("policy", ""):
        container["imagePullPolicy"] = policy
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


@asynccontextmanager
async def api_host(engine: PrivateEngine, server: ServerProcess) -> AsyncIterator[ApiHost]:
    root = Path(tempfile.mkdtemp(prefix="orca-pods-", dir="/var/tmp"))
    host = ApiHost(engine, server, root)
    await host.start()
    try:
        yield host
    finally:
        await host.close()
        shutil.rmtree(root, ignore_errors=True)
