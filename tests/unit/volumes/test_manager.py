"""The volume manager over the fake API: what pods get, what changes, what stays behind."""

from __future__ import annotations

import asyncio
import base64
import re
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents import mounts
from agents.pods.environment import ConfigError, Place
from agents.pods.ports import Stage
from agents.volumes import VolumeError, VolumeManager, atomic, removal
from agents.volumes.empty_dir import EmptyDir, huge_page_size, memory_size
from agents.volumes.nfs import Nfs, lacking
from agents.volumes.plugin import Places
from orca.api.builtin import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, SECRETS, SERVICEACCOUNTS
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from tests.support.patience import PATIENCE

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
        self.node: Obj | None = None
        self.manager = self.restart()

    def restart(self) -> VolumeManager:
        self.manager = VolumeManager(
            self.client,
            root=self.root,
            clock=self.clock,
            place=lambda pod: PLACE,
            memory_root=self.root / "memory",
            node=lambda: self.node,
        )
        return self.manager

    async def paths(self, pod: Obj) -> dict[str, Path]:
        """Where its volumes are, once they are ready."""
        return {name: Path(mounted.path) for name, mounted in (await self.manager.prepare(pod)).items()}

    async def until(self, check: Any) -> None:
        """Files are written by threads: wait for them without counting turns."""
        async with asyncio.timeout(PATIENCE):
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


async def test_everything_wrong_with_a_projected_volume_is_told(room: Room) -> None:
    room.client.seed(CONFIGMAPS, config_map({"a": "1"}))
    item = {"items": [{"key": "no", "path": "p"}]}
    sources = [
        {"configMap": {"name": "config", **item}},
        {"secret": {"name": "nowhere"}},
        {"serviceAccountToken": {"path": "token"}},
    ]
    problems = 'configmap references non-existent config key: no, secret "nowhere" not found, failed to fetch token: '
    with pytest.raises(VolumeError, match=re.escape(f'SetUp failed for volume "p" : [{problems}')):
        await room.manager.prepare(pod({"name": "p", "projected": {"sources": sources}}))


@pytest.mark.parametrize("kind", ["iscsi", "rbd", "csi"])
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


STAGES = [Stage(0, "disk", sub_path="a/b"), Stage(2, "disk", read_only_in_depth=True)]


async def test_parts_are_staged_while_a_container_is_started(room: Room) -> None:
    subject = pod({"name": "disk", "emptyDir": {}})
    disk = (await room.paths(subject))["disk"]
    paths = await room.manager.stage(subject, "app", STAGES)
    (Path(paths[0]) / "file").touch()
    assert (disk / "a/b/file").exists()
    with pytest.raises(OSError, match="Read-only"):
        (Path(paths[2]) / "file").touch()
    await room.manager.unstage(subject, "app")
    await room.manager.unstage(subject, "app")
    assert mounts.mounts_below(room.root) == []
    (disk / "out").symlink_to("/etc")
    with pytest.raises(ConfigError, match='failed to prepare subPath for volumeMount "disk" of container "app"'):
        await room.manager.stage(subject, "app", [Stage(1, "disk", sub_path="out/passwd")])
    with pytest.raises(ConfigError, match='cannot find volume "no"'):
        await room.manager.stage(subject, "app", [Stage(1, "no", sub_path="x")])
    await room.manager.teardown("uid-1")


async def test_stages_of_a_crash_go_when_the_pod_is_adopted_or_gone(room: Room) -> None:
    subject = pod({"name": "disk", "emptyDir": {}})
    for end in ("adopted", "gone"):
        disk = (await room.paths(subject))["disk"]
        await room.manager.stage(subject, "app", STAGES)
        assert len(mounts.mounts_below(room.root)) == 2
        room.restart()
        if end == "adopted":
            assert (await room.paths(subject))["disk"] == disk
        else:
            await room.manager.orphans(set())
            assert not disk.exists()
        assert mounts.mounts_below(room.root) == []


async def test_files_are_read_inside_volumes_only(room: Room) -> None:
    subject = pod({"name": "disk", "emptyDir": {}})
    disk = (await room.paths(subject))["disk"]
    (disk / "env").write_text("A='1'")
    (disk / "out").symlink_to("/etc/passwd")
    assert await room.manager.read(subject, "disk", "env") == b"A='1'"
    assert [await room.manager.read(subject, "disk", path) for path in ("out", "no", ".", "../x")] == [None] * 4
    assert not (disk / "no").exists()


async def test_what_resists_is_removed_later_and_hinders_no_other(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("uid-1", "uid-2"):
        (room.root / "pods" / number / "volumes").mkdir(parents=True)
    stubborn, remove = {"uid-1"}, removal.remove

    def busy(directory: Path) -> None:
        if stubborn.intersection(directory.parts):
            raise OSError(16, "Device or resource busy")
        remove(directory)

    monkeypatch.setattr(removal, "remove", busy)
    await room.manager.orphans(set())
    assert [path.name for path in (room.root / "pods").iterdir()] == ["uid-1"]
    stubborn.clear()
    await room.until(lambda: not list((room.root / "pods").iterdir()))


async def test_immutable_objects_are_watched_no_longer(room: Room) -> None:
    room.client.seed(CONFIGMAPS, {**config_map({"a": "1"}), "immutable": True})
    await room.paths(pod({"name": "c", "configMap": {"name": "config"}}))

    def watches() -> int:
        return len([task for task in asyncio.all_tasks() if task.get_name().startswith("watch configmaps")])

    await room.until(lambda: watches() == 0)
    again = pod({"name": "c", "configMap": {"name": "config"}})
    again["metadata"]["uid"] = "uid-2"
    assert ((await room.paths(again))["c"] / "a").read_text() == "1"
    assert watches() == 0


async def test_a_status_alone_makes_no_file_anew(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = pod({"name": "d", "downwardAPI": {"items": []}})
    await room.paths(subject)
    written: list[Path] = []
    monkeypatch.setattr(atomic, "write", lambda directory, *_, **__: written.append(directory))
    room.manager.update({**subject, "status": {"phase": "Running"}})
    await room.clock.advance(1)
    assert not room.manager._changed
    assert written == []


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "shop", "uid": "claim-1"},
    "spec": {"volumeName": "pv"},
    "status": {"phase": "Bound"},
}


def persistent(**spec: Any) -> Obj:
    made = {"claimRef": {"uid": "claim-1"}, "capacity": {"storage": "1Gi"}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv", "uid": "pv-1"}, "spec": made}


@pytest.mark.parametrize(
    ("claim", "spec", "text"),
    [
        ({"status": {"phase": "Pending"}}, {}, "error processing PVC shop/data: PVC is not bound"),
        ({}, {"claimRef": {"uid": "other"}}, "does not point to claim.UID"),
        ({}, {"claimRef": None}, "it has a nil pv.Spec.ClaimRef"),
        ({}, {"volumeMode": "Block"}, "is a block device"),
        ({}, {"csi": {"driver": "x"}}, 'PersistentVolume "pv" is of type csi, which this host does not support'),
        ({}, {"local": {"path": "/no"}}, 'MountVolume.SetUp failed for volume "pv" : path "/no" does not exist'),
        ({}, {"hostPath": {"path": "/"}, "mountOptions": ["ro"]}, "Mount options are not supported"),
    ],
)
async def test_claims_that_cannot_be_mounted(room: Room, claim: Obj, spec: Obj, text: str) -> None:
    room.client.seed(PERSISTENTVOLUMECLAIMS, {**CLAIM, **claim})
    room.client.seed(PERSISTENTVOLUMES, persistent(**spec))
    with pytest.raises(VolumeError, match=re.escape(text)):
        await room.manager.prepare(pod({"name": "v", "persistentVolumeClaim": {"claimName": "data"}}))


async def test_a_local_volume_is_bound_and_left_as_it_is(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "local"
    source.mkdir()
    room.client.seed(PERSISTENTVOLUMECLAIMS, CLAIM)
    room.client.seed(PERSISTENTVOLUMES, persistent(local={"path": str(source)}))
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    paths = await room.paths(pod(volume, securityContext={"fsGroup": 2000}))
    (paths["v"] / "file").touch()
    assert (source / "file").stat().st_gid == 2000
    await room.manager.teardown("uid-1")
    assert (source / "file").exists()
    assert not paths["v"].exists()


async def test_a_volume_of_another_host_is_not_mounted(room: Room) -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["there"]}]}
    affinity = {"required": {"nodeSelectorTerms": [term]}}
    room.client.seed(PERSISTENTVOLUMECLAIMS, CLAIM)
    room.client.seed(PERSISTENTVOLUMES, persistent(hostPath={"path": "/tmp"}, nodeAffinity=affinity))
    claimed = pod({"name": "v", "persistentVolumeClaim": {"claimName": "data"}})
    room.node = {"metadata": {"name": "here", "labels": {"kubernetes.io/hostname": "here"}}}
    text = '^MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms$'
    with pytest.raises(VolumeError, match=text):
        await room.manager.prepare(claimed)
    room.node["metadata"]["labels"]["kubernetes.io/hostname"] = "there"
    assert (await room.paths(claimed))["v"] == Path("/tmp")


async def test_nfs_is_mounted_with_its_options_and_says_why_not(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "filesystems"
    known.write_text("nodev\ttmpfs\n\text4\n")
    assert lacking(known, [tmp_path / "mount.nfs"]) == (
        "no NFS client in its kernel, no mount.nfs (Debian: nfs-common)"
    )
    assert lacking(known, [tmp_path]) == "no NFS client in its kernel"
    known.write_text("nodev\tnfs\nnodev\tnfs4\n")
    assert lacking(known, [tmp_path]) == ""
    monkeypatch.setattr("agents.volumes.nfs.lacking", lambda: "no luck" * (source["server"] == "nas"))
    program = tmp_path / "mount"
    program.write_text('#!/bin/sh\necho "$@"\nexit 32\n')
    program.chmod(0o755)
    nfs = Nfs(Places(room.root / "pods", room.root / "memory"), program=str(program))
    target = room.root / "pods/uid-1/volumes/kubernetes.io~nfs/v"
    words = f"-t nfs -o hard,ro [fd00::1]:/x {target}"
    source = {"server": "fd00::1", "path": "/x", "readOnly": True}
    with pytest.raises(VolumeError) as raised:
        await nfs.mount(pod(), "v", source, options=["hard"])
    assert str(raised.value) == (
        f"mount failed: exit status 32\nMounting command: mount\nMounting arguments: {words}\nOutput: {words}\n"
    )
    none = Nfs(Places(room.root / "pods", room.root / "memory"), program="/no/such/mount")
    source = {"server": "nas", "path": "/"}
    text = r"(?s)mount failed: No such file.*\nThis host cannot mount NFS: it has no luck"
    with pytest.raises(VolumeError, match=text):
        await none.make(pod(), "v", source)


@pytest.mark.parametrize(
    ("source", "limits", "size"),
    [
        ({}, [], 8 << 30),
        ({"sizeLimit": "1Mi"}, ["2Mi"], 1 << 20),
        ({"sizeLimit": "9Gi"}, [], 8 << 30),
        ({}, ["2Mi", "3Mi"], 5 << 20),
        ({}, ["2Mi", None], 8 << 30),
    ],
)
def test_memory_volumes_are_limited_by_what_is_least(source: Obj, limits: list[str | None], size: int) -> None:
    containers = [{"name": "c", "resources": {"limits": {"memory": one}} if one else {}} for one in limits]
    subject = {"spec": {"containers": containers or [{"name": "c"}]}}
    assert memory_size(subject, source, {"memory": "8Gi"}) == size


def test_huge_pages_are_those_the_pod_asks_for() -> None:
    def size(medium: str, *names: str) -> int:
        return huge_page_size({"spec": {"containers": [{"resources": {"requests": dict.fromkeys(names, 1)}}]}}, medium)

    assert size("HugePages", "hugepages-2Mi", "cpu") == 2 << 20
    assert size("HugePages-1Gi", "hugepages-2Mi", "hugepages-1Gi") == 1 << 30
    for medium, names in (("HugePages", ()), ("HugePages-1Gi", ("hugepages-2Mi",))):
        with pytest.raises(VolumeError, match="there is no resource request for huge pages"):
            size(medium, *names)
    with pytest.raises(VolumeError, match="multiple huge page sizes"):
        size("HugePages", "hugepages-2Mi", "hugepages-1Gi")


async def test_a_volume_of_huge_pages(room: Room) -> None:
    volume = {"name": "huge", "emptyDir": {"medium": "HugePages-2Mi"}}
    containers = [{"name": "app", "resources": {"requests": {"hugepages-2Mi": "2Mi"}}}]
    path = (await room.paths(pod(volume, containers=containers)))["huge"]
    point = mounts.mount_point(path)
    assert point is not None
    assert point.type == "hugetlbfs"
    await room.manager.teardown("uid-1")
    assert mounts.mounts_below(room.root) == []


async def test_a_token_that_holds_is_kept_while_it_cannot_be_renewed(room: Room) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}}
    room.client.seed(SERVICEACCOUNTS, account)
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    subject = pod(volume)
    path = (await room.paths(subject))["t"] / "token"
    before = path.read_text()
    await room.client.delete(SERVICEACCOUNTS, "default", "shop")
    await room.clock.advance(3000)
    assert (await room.paths(subject))["t"] / "token" == path
    assert path.read_text() == before
    await room.clock.advance(1000)
    with pytest.raises(VolumeError, match="default"):
        await room.manager.prepare(subject)


async def test_what_is_being_made_is_taken_away_only_when_it_is_made(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is bound while its pod is cleared away would be emptied, or stay mounted."""
    begun, go_on, order = threading.Event(), threading.Event(), []

    def slow(self: EmptyDir, pod: Obj, name: str, source: Obj) -> Path:
        begun.set()
        assert go_on.wait(PATIENCE)
        order.append("made")
        return made(self, pod, name, source)

    def remove(pod_uid: str) -> None:
        order.append("taken away")
        taken(pod_uid)

    made, taken = EmptyDir._make, room.manager._remove
    monkeypatch.setattr(EmptyDir, "_make", slow)
    monkeypatch.setattr(room.manager, "_remove", remove)
    preparing = asyncio.create_task(room.manager.prepare(pod({"name": "e", "emptyDir": {}})))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    preparing.cancel()
    clearing = asyncio.create_task(room.manager.teardown("uid-1"))
    for _ in range(5):
        await asyncio.sleep(0)
        preparing.cancel()  # whoever insists does not make it faster
    go_on.set()
    await clearing
    assert order == ["made", "taken away"]
    assert not (room.root / "pods" / "uid-1").exists()


async def test_leftovers_of_a_pod_that_comes_again_are_left_to_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod of a file has the same uid when its file is put back."""
    mine = pod({"name": "e", "emptyDir": {}})
    await room.paths(mine)
    busy = True

    def remove(pod_uid: str) -> None:
        if busy:
            raise OSError("busy")
        taken(pod_uid)

    manager = room.restart()
    taken = manager._remove
    monkeypatch.setattr(manager, "_remove", remove)
    await manager.orphans(set())
    path = (await room.paths(mine))["e"]
    (path / "data").touch()
    busy = False
    await manager._clear_leftovers()
    assert (path / "data").exists()
