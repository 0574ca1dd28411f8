"""The volume manager over the fake API: what pods get, what changes, what stays behind."""

from __future__ import annotations

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents.pods.environment import Place
from agents.volumes import VolumeError, VolumeManager, mounts
from orca.api.builtin import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient

PLACE = Place("node", ("10.0.0.1",), (), {})


def config_map(data: dict[str, str], name: str = "config") -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data}


def pod(*volumes: Obj, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-1", "labels": {"app": "web"}},
        "spec": {"serviceAccountName": "default", "containers": [{"name": "app"}], "volumes": list(volumes), **spec},
    }


class Room:
    """A manager with its client, clock and directories."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.client = FakeClient(clock=self.clock)
        self.root = directory
        self.manager = self.restart()

    def restart(self) -> VolumeManager:
        self.manager = VolumeManager(
            self.client, root=self.root, clock=self.clock, place=lambda pod: PLACE, memory_root=self.root / "memory"
        )
        return self.manager

    async def paths(self, pod: Obj) -> dict[str, Path]:
        """Where its volumes are, once they are ready."""
        return {name: Path(mounted.path) for name, mounted in (await self.manager.prepare(pod)).items()}

    async def until(self, check: Any) -> None:
        """Files are written by threads: wait for them without counting turns."""
        async with asyncio.timeout(5):
            while not check():
                await self.clock.advance(0.5)
                await asyncio.sleep(0.01)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    running = asyncio.create_task(room.manager.run())
    yield room
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_config_maps_and_secrets_become_files(room: Room) -> None:
    room.client.seed(CONFIGMAPS, config_map({"a.conf": "1"}))
    secret = {"metadata": {"name": "s", "namespace": "shop"}, "data": {"key": base64.b64encode(b"x").decode()}}
    room.client.seed(SECRETS, {"apiVersion": "v1", "kind": "Secret", **secret})
    paths = await room.paths(
        pod(
            {"name": "c", "configMap": {"name": "config"}},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        )
    )
    assert (paths["c"] / "a.conf").read_text() == "1"
    assert (paths["s"] / "key").read_text() == "x"
    assert stat.S_IMODE((paths["s"] / "key").stat().st_mode) == 0o400
    assert room.root / "memory" in paths["s"].parents


async def test_a_change_reaches_the_files_without_a_restart(room: Room) -> None:
    room.client.seed(CONFIGMAPS, config_map({"a": "1"}))
    paths = await room.paths(pod({"name": "c", "configMap": {"name": "config"}}))
    await room.client.update(CONFIGMAPS, config_map({"a": "2", "b": "new"}))
    await room.until(lambda: (paths["c"] / "b").exists())
    assert (paths["c"] / "a").read_text() == "2"


async def test_labels_reach_the_downward_api(room: Room) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    mine = pod({"name": "d", "downwardAPI": {"items": items}})
    paths = await room.paths(mine)
    assert (paths["d"] / "labels").read_text() == 'app="web"'
    changed = {**mine, "metadata": {**mine["metadata"], "labels": {"app": "shop"}}}
    room.manager.update(changed)
    await room.until(lambda: (paths["d"] / "labels").read_text() == 'app="shop"')


async def test_a_projected_volume_joins_its_sources_and_renews_its_token(room: Room) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}}
    room.client.seed(SERVICEACCOUNTS, account)
    room.client.seed(CONFIGMAPS, config_map({"ca.crt": "CA"}, "kube-root-ca.crt"))
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    paths = await room.paths(pod({"name": "api", "projected": {"sources": sources, "defaultMode": 0o644}}))
    assert {name: (paths["api"] / name).read_text() for name in ("token", "ca.crt", "namespace")} == {
        "token": "token-of-default",
        "ca.crt": "CA",
        "namespace": "shop",
    }

    def asked() -> int:
        return len([call for call in room.client.calls if call[1] == "serviceaccounts/token"])

    await room.clock.advance(2800)
    assert asked() == 1
    await room.until(lambda: asked() == 2)
    assert room.clock.monotonic() < 3000


@pytest.mark.parametrize(
    ("spec", "owner", "mode"),
    [
        ({}, 0, 0o644),
        ({"securityContext": {"runAsUser": 1000}}, 1000, 0o600),
        ({"securityContext": {"fsGroup": 2000}}, 0, 0o640),
    ],
)
async def test_a_token_is_readable_by_those_who_run(room: Room, spec: Obj, owner: int, mode: int) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}}
    room.client.seed(SERVICEACCOUNTS, account)
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    status = ((await room.paths(pod(volume, **spec)))["t"] / "token").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (owner, mode)


async def test_what_is_missing_is_named_unless_it_is_optional(room: Room) -> None:
    with pytest.raises(VolumeError, match='SetUp failed for volume "c" : configmap "config" not found'):
        await room.paths(pod({"name": "c", "configMap": {"name": "config"}}))
    paths = await room.paths(pod({"name": "c", "configMap": {"name": "config", "optional": True}}))
    assert list(paths["c"].glob("[!.]*")) == []
    room.client.seed(CONFIGMAPS, config_map({"late": "1"}))
    await room.until(lambda: (paths["c"] / "late").exists())


@pytest.mark.parametrize("kind", ["iscsi", "ephemeral", "csi"])
async def test_an_unsupported_type_is_named(room: Room, kind: str) -> None:
    with pytest.raises(VolumeError, match=f'volume "data" is of type {kind}'):
        await room.paths(pod({"name": "data", kind: {}}))


async def test_teardown_leaves_nothing(room: Room) -> None:
    room.client.seed(CONFIGMAPS, config_map({"a": "1"}))
    volumes = [
        {"name": "c", "configMap": {"name": "config"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    paths = await room.paths(pod(*volumes))
    assert await room.paths(pod(*volumes)) == paths
    assert stat.S_IMODE(paths["disk"].stat().st_mode) == 0o777
    assert mounts.mounts_below(room.root) == [paths["ram"]]
    (paths["ram"] / "file").write_text("x")
    with pytest.raises(OSError, match="No space left"):
        (paths["ram"] / "big").write_bytes(bytes(2 << 20))
    await room.manager.teardown("uid-1")
    assert mounts.mounts_below(room.root) == []
    assert [path for path in room.root.rglob("*") if "uid-1" in str(path)] == []
    assert len(room.manager._sources) == 0
    await room.manager.teardown("uid-1")


async def test_a_restarted_manager_keeps_what_is_in_use_and_removes_the_rest(room: Room) -> None:
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "ram", "emptyDir": {"medium": "Memory"}}]
    paths = await room.paths(pod(*volumes))
    (paths["ram"] / "kept").write_text("x")
    manager = room.restart()
    assert await room.paths(pod(*volumes)) == paths
    assert (paths["ram"] / "kept").read_text() == "x"
    await manager.orphans({"uid-1"})
    assert (paths["ram"] / "kept").exists()
    await room.restart().orphans(set())
    assert mounts.mounts_below(room.root) == []
    assert not (room.root / "pods/uid-1").exists()
