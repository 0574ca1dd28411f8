"""Checks that run in a guest; see the package."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agents import mounts
from agents.pods.environment import Place
from agents.volumes.errors import VolumeError
from agents.volumes.manager import VolumeManager
from agents.volumes.nfs import Nfs
from agents.volumes.plugin import Places
from agents.volumes.reclaim import Reclaimer
from orca.api.builtin import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj
from orca.client.clock import SystemClock
from orca.client.events import EventRecorder
from orca.client.fake import FakeClient
from orca.controllers.cache import Caches
from orca.controllers.config import ControllersConfig
from orca.controllers.harness import Context
from orca.controllers.persistentvolume import PersistentVolumeBinder, PersistentVolumeClaimBinder
from tests.cluster.nfs.server import ADDRESS, PACKAGES, serving
from tests.guest.packages import lay_over, unpacked

NODE = "host-1"
PATIENCE = 120.0
T = TypeVar("T")


class World:
    """The API with its binders, and one host."""

    def __init__(self, api: FakeClient, root: Path, export: Path) -> None:
        self.api = api
        self.export = export
        self.root = root
        self.volumes = self.agent()
        self._pods = 0

    def agent(self) -> VolumeManager:
        """One that begins, as after a kill of the one before."""
        return VolumeManager(
            self.api,
            root=self.root,
            clock=SystemClock(),
            place=lambda _: Place(NODE, (ADDRESS,), ()),
            memory_root=self.root / "memory",
        )

    def pod(self, **source: Any) -> Obj:
        """A pod with one volume."""
        self._pods += 1
        made = f"pod-{self._pods}"
        return {
            "metadata": {"name": made, "namespace": "default", "uid": f"uid-{made}"},
            "spec": {"containers": [], "volumes": [{"name": "data", **source}]},
        }

    async def mounted(self, pod: Obj) -> Path:
        """Where the pod's volume is, which must be of the server."""
        ready = (await self.volumes.prepare(pod))["data"]
        point = mounts.mount_point(Path(ready.path))
        assert point is not None, f"{ready.path} is not mounted"
        assert point.type == "nfs4", point
        return Path(ready.path)

    async def claim(self, name: str, storage_class: str, **metadata: Any) -> Obj:
        """A claim that is bound."""
        self.api.seed(
            PERSISTENTVOLUMECLAIMS,
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **metadata},
                "spec": {
                    "accessModes": ["ReadWriteMany"],
                    "resources": {"requests": {"storage": "500Mi"}},
                    "storageClassName": storage_class,
                },
                "status": {"phase": "Pending"},
            },
        )

        async def bound() -> Obj | None:
            found = await self.api.get(PERSISTENTVOLUMECLAIMS, name, "default")
            return found if found["status"].get("phase") == "Bound" else None

        return await until(bound, f"claim {name} is not bound")

    async def unclaim(self, name: str) -> None:
        """Delete a claim, and wait until its volume is gone."""
        claim = await self.api.get(PERSISTENTVOLUMECLAIMS, name, "default")
        await self.api.delete(PERSISTENTVOLUMECLAIMS, name, "default")

        async def gone() -> bool:
            try:
                await self.api.get(PERSISTENTVOLUMES, claim["spec"]["volumeName"])
            except ApiError as error:
                if is_not_found(error):
                    return True
                raise
            return False

        await until(gone, f"the volume of {name} is still there")


async def until(look: Callable[[], Awaitable[T | None]], problem: str) -> T:
    """What ``look`` answers once it is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(problem)


def a_class(name: str, **parameters: str) -> Obj:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "orca.io/nfs-subdir",
        "parameters": {"server": ADDRESS, "path": "/shared", **parameters},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


async def hand_made(world: World) -> None:
    """A claim is bound by the name of its class to a volume that somebody made, and pods share what is on it."""
    world.api.seed(
        PERSISTENTVOLUMES,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "nfs-pv"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "nfs",
                "mountOptions": ["hard", "nfsvers=4.1"],
                "nfs": {"server": ADDRESS, "path": "/kubedata"},
            },
            "status": {"phase": "Pending"},
        },
    )
    (world.export / "kubedata").mkdir()
    claim = await world.claim("hand-made", "nfs")
    assert claim["spec"]["volumeName"] == "nfs-pv"
    writer = world.pod(persistentVolumeClaim={"claimName": "hand-made"})
    path = await world.mounted(writer)
    assert "vers=4.1" in _mounted_as(path), _mounted_as(path)
    (path / "index.html").write_text("hello")
    assert (world.export / "kubedata" / "index.html").read_text() == "hello"
    reader = world.pod(persistentVolumeClaim={"claimName": "hand-made", "readOnly": True})
    seen = await world.mounted(reader)
    assert (seen / "index.html").read_text() == "hello"
    with pytest.raises(OSError, match="Read-only"):
        (seen / "other").write_text("x")
    for pod in (writer, reader):
        await world.volumes.teardown(pod["metadata"]["uid"])
    assert not mounts.mounts_below(world.root)
    assert (world.export / "kubedata" / "index.html").exists(), "what is on a volume is nobody's to remove"


async def in_the_pod(world: World) -> None:
    """A pod names the export itself."""
    (world.export / "plain").mkdir()
    (world.export / "plain" / "there").write_text("1")
    pod = world.pod(nfs={"server": ADDRESS, "path": "/plain"})
    assert os.listdir(await world.mounted(pod)) == ["there"]
    await world.volumes.teardown(pod["metadata"]["uid"])


async def subdirectories(world: World) -> None:
    """A claim of a class has a directory of its own, open to all its pods, which goes with it."""
    (world.export / "shared").mkdir(exist_ok=True)
    world.api.seed(STORAGECLASSES, a_class("nfs-client"))
    claim = await world.claim("sub", "nfs-client")
    directory = world.export / "shared" / f"default-sub-{claim['spec']['volumeName']}"
    pod = world.pod(persistentVolumeClaim={"claimName": "sub"})
    path = await world.mounted(pod)
    (path / "SUCCESS").touch()
    assert (directory / "SUCCESS").exists()
    assert directory.stat().st_mode & 0o777 == 0o777
    assert os.listdir(world.root / "exports") == [], "the export itself stays mounted"
    await world.volumes.teardown(pod["metadata"]["uid"])
    await world.unclaim("sub")
    assert not directory.exists()


async def archived(world: World) -> None:
    """A class may say where the directory is, and that it is kept when its claim goes."""
    (world.export / "shared").mkdir(exist_ok=True)
    made = a_class("kept", onDelete="archive", pathPattern="${.PVC.namespace}/${.PVC.labels.app}")
    world.api.seed(STORAGECLASSES, made)
    for number in (1, 2):
        await world.claim(f"kept-{number}", "kept", labels={"app": "web"})
        pod = world.pod(persistentVolumeClaim={"claimName": f"kept-{number}"})
        (await world.mounted(pod) / "file").write_text(str(number))
        await world.volumes.teardown(pod["metadata"]["uid"])
        await world.unclaim(f"kept-{number}")
    found = {path.parent.name: path.read_text() for path in (world.export / "shared" / "default").glob("*/file")}
    assert found == {"archived-web": "1", "archived-web-2": "2"}, found


async def after_a_kill(world: World) -> None:
    """An agent that begins takes away what a killed one had mounted, and adopts what a pod has."""
    (world.export / "plain").mkdir(exist_ok=True)
    pod = world.pod(nfs={"server": ADDRESS, "path": "/plain"})
    path = await world.mounted(pod)
    gone = world.pod(nfs={"server": ADDRESS, "path": "/plain"})
    left = await world.mounted(gone)
    moment = world.root / "exports" / "pvc-of-a-moment"
    moment.mkdir(parents=True)
    await Nfs(Places(world.root, world.root)).attach(ADDRESS, "/plain", moment)
    world.volumes = world.agent()
    await world.volumes.orphans({pod["metadata"]["uid"]})
    assert mounts.mounts_below(world.root) == [path], mounts.mounts_below(world.root)
    assert not moment.exists()
    assert not left.exists()
    assert await world.mounted(pod) == path
    await world.volumes.teardown(pod["metadata"]["uid"])


async def refused(world: World) -> None:
    """What the server does not have is told in the words of mount."""
    pod = world.pod(nfs={"server": ADDRESS, "path": "/nowhere"})
    with pytest.raises(VolumeError, match=r"(?s)Mounting arguments: -t nfs 127.0.0.1:/nowhere .*mount.nfs: "):
        await world.volumes.prepare(pod)
    await world.volumes.teardown(pod["metadata"]["uid"])


CHECKS = (hand_made, in_the_pod, subdirectories, archived, after_a_kill, refused)


def _mounted_as(path: Path) -> str:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return next(line for line in lines if line.split()[1] == str(path))


@asynccontextmanager
async def _world(export: Path) -> AsyncIterator[World]:
    clock = SystemClock()
    api = FakeClient(clock=clock)
    ready = [{"type": "Ready", "status": "True"}]
    api.seed(NODES, {"metadata": {"name": NODE}, "spec": {}, "status": {"conditions": ready}})
    world = World(api, Path(tempfile.mkdtemp(dir="/run")), export)
    caches = Caches(api, clock)
    context = Context(api, clock, ControllersConfig(), caches)
    binders = [PersistentVolumeClaimBinder(context), PersistentVolumeBinder(context)]
    recorder = EventRecorder(api, "orca-agent", clock=clock)
    reclaimer = Reclaimer(api, NODE, exports=world.volumes.exports, recorder=recorder, clock=clock)
    tasks = [asyncio.create_task(caches.run())]
    await binders[0].caches.synced()
    tasks += [asyncio.create_task(one.run()) for one in (*binders, reclaimer)]
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _check_all(export: Path) -> None:
    async with _world(export) as world:
        for check in CHECKS:
            began = time.monotonic()
            problem = ""
            try:
                await check(world)
            except Exception:
                # Whatever it is, the other checks have something to say as well.
                problem = traceback.format_exc()
            said = {"check": check.__name__, "problem": problem, "seconds": round(time.monotonic() - began, 1)}
            print(json.dumps(said), flush=True)


def main() -> int:
    lay_over(unpacked(PACKAGES))
    with serving() as export:
        asyncio.run(_check_all(export))
    return 0


if __name__ == "__main__":
    sys.exit(main())
