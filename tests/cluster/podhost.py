"""A host for tests of the pods room: a private engine, a PodManager in this process, an API in memory."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents.pods import PodManager, PodsConfig
from agents.resources.cgroups import Cgroups
from agents.resources.handout import CpuHandout
from agents.runtime import Runtime
from orca.api.builtin import PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.clock import SystemClock
from orca.client.fake import FakeClient
from tests.support.engine import PrivateEngine
from tests.support.patience import PATIENCE
from tests.support.pods import FakeVolumes, HostNetwork, Told

NODE = "host-t"


def pod(
    name: str, *, container: dict[str, Any] | None = None, labels: dict[str, str] | None = None, **spec: Any
) -> Obj:
    """A busybox pod that sleeps; ``container`` changes its container, ``spec`` the rest."""
    first = {
        "name": "c",
        "image": "busybox:latest",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        **(container or {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": [first], **spec},
    }


def shell(script: str, **more: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"command": ["sh", "-c", script], **more}


class PodHost:
    """Create and delete pods through ``client`` and wait for what becomes of them."""

    def __init__(
        self,
        engine: PrivateEngine,
        root: Path,
        node: Obj | None = None,
        cgroups: Callable[[], Cgroups] | None = None,
        cpus: Callable[[Path], CpuHandout] | None = None,
    ) -> None:
        self.engine = engine
        self.socket = engine.socket
        """Where the agent speaks to it; a test may put something in between."""
        self.root = root
        self.node = node
        self._cgroups, self._cpus = cgroups, cpus
        self.client = FakeClient(clock=SystemClock())
        self.told = Told()
        self.network = HostNetwork(engine.netns)
        self.manager: PodManager | None = None
        self._runtime: Runtime | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def runtime(self) -> Runtime:
        assert self._runtime is not None
        return self._runtime

    async def start_agent(self) -> None:
        self._runtime = Runtime(str(self.socket))
        self.manager = PodManager(
            client=self.client,
            runtime=self._runtime,
            network=self.network,
            volumes=FakeVolumes(self.root / "volumes"),
            recorder=self.told,
            config=PodsConfig(
                NODE,
                ("192.0.2.10",),
                root=self.root,
                cluster_dns=("10.96.0.10",),
                unsafe_sysctls=("kernel.msg*",),
                seccomp_default=True,
            ),
            node=lambda: self.node,
            cgroups=self._cgroups() if self._cgroups is not None else None,
            cpus=self._cpus(self.root) if self._cpus is not None else None,
        )
        self._task = asyncio.create_task(self.manager.run())

    async def stop_agent(self) -> None:
        """As abruptly as a crash, seen from outside."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._runtime is not None:
            await self._runtime.aclose()

    async def create(self, obj: Obj) -> Obj:
        return await self.client.create(PODS, obj)

    async def get(self, name: str) -> Obj | None:
        try:
            return await self.client.get(PODS, name, "default")
        except ApiError:
            return None

    async def until(self, name: str, true: Callable[[Obj], Any], *, seconds: float = PATIENCE) -> Obj:
        """The pod once ``true`` of it; raises AssertionError with its status when that takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            found = await self.get(name)
            if found is not None and found.get("status") and true(found["status"]):
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{name}: {(found or {}).get('status')}\nevents: {self.told.events}")
            await asyncio.sleep(0.02)

    async def running(self, name: str, **options: Any) -> Obj:
        """The pod once all its containers are ready."""
        return await self.until(name, lambda status: status["phase"] == "Running" and ready(status, "Ready"), **options)

    async def delete(self, name: str, *, grace: int | None = None, seconds: float = PATIENCE) -> None:
        """Delete and wait until object and containers are gone."""
        found = await self.get(name)
        assert found is not None
        await self.client.delete(PODS, name, "default", grace_seconds=grace)
        await self.gone(found, seconds=seconds)

    async def gone(self, obj: Obj, *, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while True:
            left = [info.name for info in await self.runtime.inspect_all() if info.pod_uid == obj["metadata"]["uid"]]
            present = await self.get(obj["metadata"]["name"])
            if not left and (present is None or present["metadata"]["uid"] != obj["metadata"]["uid"]):
                return
            assert time.monotonic() < deadline, (left, present)
            await asyncio.sleep(0.02)

    async def no_sandbox_is_left(self, *, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while left := [info.name for info in await self.runtime.inspect_all() if info.is_sandbox]:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.05)

    async def output(self, name: str, *argv: str, container: str = "c") -> str:
        """What a command prints inside a container."""
        assert self.manager is not None
        view = self.manager.find("default", name)
        assert view is not None
        result = await self.runtime.exec(view.containers[container].current, argv, seconds=PATIENCE)
        return result.output.decode()


def ready(status: Obj, kind: str) -> bool:
    """Whether a condition is True."""
    return any(item["type"] == kind and item["status"] == "True" for item in status.get("conditions") or ())


def container(status: Obj, name: str = "c") -> Obj:
    """A container's status."""
    for item in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        if item["name"] == name:
            found: Obj = item
            return found
    return {"state": {}, "lastState": {}, "restartCount": -1}


def waiting(status: Obj, name: str = "c") -> str:
    """Reason of a container's waiting state, "" when it does not wait."""
    reason: str = container(status, name)["state"].get("waiting", {}).get("reason", "")
    return reason


def ended(status: Obj, name: str = "c") -> Obj:
    """A container's terminated state, {} when it has not ended."""
    found: Obj = container(status, name)["state"].get("terminated") or {}
    return found


@asynccontextmanager
async def pod_host(
    engine: PrivateEngine,
    node: Obj | None = None,
    cgroups: Callable[[], Cgroups] | None = None,
    cpus: Callable[[Path], CpuHandout] | None = None,
) -> AsyncIterator[PodHost]:
    """A host with its agent running, of which the API has this Node; everything is removed afterwards. ``cgroups``
    makes the tree that an agent keeps; without it containers are where the engine puts them. ``cpus`` makes who hands
    out cpus, for a directory."""
    root = Path(tempfile.mkdtemp(prefix="orca-pods-", dir="/var/tmp"))
    host = PodHost(engine, root, node, cgroups, cpus)
    await host.start_agent()
    try:
        yield host
    finally:
        await host.stop_agent()
        cleaner = Runtime(str(engine.socket))
        try:
            for info in await cleaner.inspect_all():
                await cleaner.remove(info.id)
        finally:
            await cleaner.aclose()
        shutil.rmtree(root, ignore_errors=True)
