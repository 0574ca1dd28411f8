"""Neighbours of the pods room for its tests: a network of one host, and volumes that are plain directories."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from agents.pods.ports import Mounted, Stage
from orca.api.objects import Obj, uid


class HostNetwork:
    """veth pairs into the engine's network namespace, 10.244.7.0/24; enough for probes and pod addresses."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._leases: dict[str, int] = {}
        self.attached: list[str] = []

    async def attach(self, pod_uid: str, netns_pid: int, **how: object) -> list[str]:
        number = self._leases.setdefault(pod_uid, len(self._leases) + 2)
        self.attached.append(pod_uid)
        link, address = f"t{number}", f"10.244.7.{number}"
        inside = f"nsenter --net=/proc/{netns_pid}/ns/net"
        await _run(
            f"{inside} ip link show eth0 >/dev/null 2>&1 && exit 0; set -e; "
            f"ip -n {self._netns} link del {link} 2>/dev/null || true; "
            f"ip -n {self._netns} link add {link} type veth peer name eth0 netns {netns_pid}; "
            f"ip -n {self._netns} addr add 10.244.7.1 peer {address} dev {link}; "
            f"ip -n {self._netns} link set {link} up; "
            f"{inside} ip addr add {address} peer 10.244.7.1 dev eth0; {inside} ip link set eth0 up; "
            f"{inside} ip link set lo up"
        )
        return [address]

    async def detach(self, pod_uid: str) -> None:
        self.attached = [item for item in self.attached if item != pod_uid]

    async def reconcile(self, live: Collection[str]) -> None:
        return


class FakeVolumes:
    """emptyDir as a directory; every other type is refused, as the real one does with what it does not know."""

    read_only_in_depth = False

    def __init__(self, root: Path) -> None:
        self._root = root

    async def prepare(self, pod: Obj) -> dict[str, Mounted]:
        ready = {}
        for volume in pod["spec"].get("volumes") or ():
            if "emptyDir" not in volume:
                kind = next(key for key in volume if key != "name")
                raise ValueError(f'volume "{volume["name"]}": type {kind} is not supported')
            path = self._root / uid(pod) / volume["name"]
            path.mkdir(parents=True, exist_ok=True)
            ready[volume["name"]] = Mounted(str(path))
        return ready

    async def stage(self, pod: Obj, container: str, stages: Sequence[Stage]) -> dict[int, str]:
        paths = {stage.index: self._root / uid(pod) / stage.volume / stage.sub_path for stage in stages}
        for path in paths.values():
            path.mkdir(parents=True, exist_ok=True)
        return {index: str(path) for index, path in paths.items()}

    async def unstage(self, pod: Obj, container: str) -> None:
        return

    async def read(self, pod: Obj, volume: str, path: str) -> bytes | None:
        file = self._root / uid(pod) / volume / path
        return file.read_bytes() if file.is_file() else None

    async def teardown(self, pod_uid: str) -> None:
        shutil.rmtree(self._root / pod_uid, ignore_errors=True)

    async def orphans(self, live: Collection[str]) -> None:
        return


class Told:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, str]] = []

    def event(self, obj: Obj, kind: str, reason: str, message: str, *, field_path: str = "") -> None:
        self.events.append((kind, reason, message, field_path))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _, _ in self.events]


async def _run(script: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", script, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode())
