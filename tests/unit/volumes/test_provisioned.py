"""Directories that orca makes for claims: made open, removed only where they were made, archived when asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from agents.volumes.errors import VolumeError
from agents.volumes.nfs import Nfs
from agents.volumes.plugin import Places
from agents.volumes.provisioned import UNFINISHED, Exports, make_directory, remove_directory
from agents.volumes.reclaim import Reclaimer
from orca.api.builtin import EVENTS, PERSISTENTVOLUMES
from orca.api.finalizers import VOLUME_CONTENT
from orca.api.objects import Obj, is_terminating
from orca.api.resources import Resource
from orca.api.volumes import LOCAL_PATH, NFS_BASE, NFS_SUBDIR, ON_DELETE, PROVISIONED_BY, RECLAIM_ON
from orca.client.clock import VirtualClock
from orca.client.events import EventRecorder
from orca.client.fake import FakeClient
from tests.support.patience import PATIENCE


def local(path: Path, *, node: str = "here") -> Obj:
    return {
        "metadata": {
            "name": "pvc-1",
            "labels": {RECLAIM_ON: node},
            "annotations": {PROVISIONED_BY: LOCAL_PATH},
        },
        "spec": {"local": {"path": str(path)}, "persistentVolumeReclaimPolicy": "Delete"},
        "status": {"phase": "Released"},
    }


def test_a_directory_is_open_to_whoever_runs_in_the_pod(tmp_path: Path) -> None:
    path = tmp_path / "volumes" / "pvc-1_default_data"
    make_directory(str(path))
    assert path.stat().st_mode & 0o777 == 0o777
    assert path.parent.stat().st_mode & 0o022 == 0
    path.chmod(0o700)
    make_directory(str(path))
    assert path.stat().st_mode & 0o777 == 0o700, "what a pod did to it stays"


def test_a_directory_that_was_moved_is_found_by_its_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / "pvc-1_default_data").symlink_to(tmp_path / "elsewhere")
    make_directory(str(tmp_path / "pvc-1_default_data"))
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o700
    (tmp_path / "pvc-1_default_gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(VolumeError):
        make_directory(str(tmp_path / "pvc-1_default_gone"))


def test_a_directory_whose_maker_died_is_opened_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "pvc-1_default_data"
    path.mkdir(UNFINISHED)
    make_directory(str(path))
    assert path.stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize("where", ["/etc", "pvc-2_x", "x/../pvc-1_x", "link"])
def test_only_what_was_made_for_a_volume_is_removed(tmp_path: Path, where: str) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    path = tmp_path / where
    if where == "link":
        path = tmp_path / "pvc-1_link"
        path.symlink_to(keep)
    with pytest.raises(VolumeError):
        remove_directory(local(path))
    assert keep.is_dir()


class Export(Nfs):
    """An export that is a directory of this machine: "mounting" links to it."""

    def __init__(self, places: Places, of: Path) -> None:
        super().__init__(places)
        self.of = of
        self.mounted: list[tuple[str, str]] = []

    async def attach(self, server: str, export: str, path: Path, options: Sequence[str] = ()) -> None:
        self.mounted.append((server, export))
        os.rmdir(path)
        os.symlink(self.of, path)


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    (tmp_path / "export").mkdir()
    monkeypatch.setattr("agents.volumes.provisioned._let_go", os.unlink)
    return Export(Places(tmp_path / "pods", tmp_path / "memory"), tmp_path / "export")


def share(on_delete: str = "delete", volume: str = "pvc-1") -> Obj:
    marks = {PROVISIONED_BY: NFS_SUBDIR, NFS_BASE: "/exports", ON_DELETE: on_delete}
    return {
        "metadata": {"name": volume, "annotations": marks, "labels": {RECLAIM_ON: "here"}},
        "spec": {
            "nfs": {"server": "192.0.2.1", "path": "/exports/team/data"},
            "persistentVolumeReclaimPolicy": "Delete",
        },
        "status": {"phase": "Released"},
    }


@pytest.mark.parametrize(
    ("on_delete", "left"), [("delete", []), ("retain", [".orca-data", "data"]), ("archive", ["archived-data"])]
)
async def test_a_subdirectory_is_made_and_given_up_as_its_class_says(
    export: Export, tmp_path: Path, on_delete: str, left: list[str]
) -> None:
    exports = Exports(export, tmp_path / "exports")
    await exports.make_directory(share(on_delete))
    assert export.mounted == [("192.0.2.1", "/exports")]
    (export.of / "team" / "data" / "file").write_text("x")
    await exports.remove_directory(share(on_delete))
    assert sorted(os.listdir(export.of / "team")) == left


async def test_what_a_killed_agent_had_mounted_for_a_moment_goes(tmp_path: Path) -> None:
    exports = Exports(Nfs(Places(tmp_path / "pods", tmp_path / "memory")), tmp_path / "exports")
    await exports.clear()
    left = [tmp_path / "exports" / name for name in ("pvc-1", "pvc-2")]
    for each in left:
        each.mkdir(parents=True)
    (left[0] / "not-ours").touch()
    await exports.clear()
    assert [each.exists() for each in left] == [True, False], "nothing is deleted but what was made for a mount"


async def test_what_is_archived_is_overwritten_by_nothing(export: Export, tmp_path: Path) -> None:
    exports = Exports(export, tmp_path / "exports")
    for number in range(3):
        await exports.make_directory(share("archive"))
        (export.of / "team" / "data" / "file").write_text(str(number))
        await exports.remove_directory(share("archive"))
    found = {path.parent.name: path.read_text() for path in (export.of / "team").glob("*/file")}
    assert found == {"archived-data": "0", "archived-data-2": "1", "archived-data-3": "2"}


@pytest.mark.parametrize("on_delete", ["delete", "archive"])
async def test_what_a_later_claim_has_is_not_taken_by_an_earlier_ones_end(
    export: Export, tmp_path: Path, on_delete: str
) -> None:
    """Its removal comes late, or was done and is tried again, as its agent was killed before it could say so."""
    exports = Exports(export, tmp_path / "exports")
    first, second = share(on_delete), share(on_delete, "pvc-2")
    await exports.make_directory(first)
    await exports.make_directory(second)
    file = export.of / "team" / "data" / "file"
    file.write_text("late")
    await exports.remove_directory(first)
    assert file.read_text() == "late"
    await exports.remove_directory(second)
    assert not file.exists()
    await exports.make_directory(first)
    await exports.remove_directory(first)
    await exports.make_directory(second)
    file.write_text("again")
    await exports.remove_directory(first)
    assert file.read_text() == "again"
    await exports.make_directory(first)
    await exports.remove_directory(second)
    assert file.read_text() == "again", "whoever mounted it last has it"


async def test_a_directory_of_an_older_agent_or_with_a_long_name_is_given_up_as_any(
    export: Export, tmp_path: Path
) -> None:
    exports = Exports(export, tmp_path / "exports")
    (export.of / "team" / "data").mkdir(parents=True)
    await exports.remove_directory(share())
    assert os.listdir(export.of / "team") == []
    long, own = share(), share()
    long["spec"]["nfs"]["path"] = f"/exports/team/{'x' * 255}"
    own["spec"]["nfs"]["path"] = "/exports/team/default-data-pvc-1"
    for volume, there in ((long, 2), (own, 1)):
        await exports.make_directory(volume)
        await exports.make_directory(volume)
        assert len(os.listdir(export.of / "team")) == there
        await exports.remove_directory(volume)
        assert os.listdir(export.of / "team") == []


async def test_a_volume_that_was_deleted_before_its_claim_is_emptied_as_well(export: Export, tmp_path: Path) -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    exports = Exports(export, tmp_path / "exports")
    recorder = EventRecorder(client, "orca-agent", clock=clock)
    reclaimer = Reclaimer(client, "here", exports=exports, recorder=recorder, clock=clock)
    path = tmp_path / "pvc-1_a"
    path.mkdir()
    volume = local(path)
    volume["metadata"]["finalizers"] = [VOLUME_CONTENT]
    client.seed(PERSISTENTVOLUMES, volume)
    await client.delete(PERSISTENTVOLUMES, "pvc-1")
    assert is_terminating(await client.get(PERSISTENTVOLUMES, "pvc-1"))
    task = asyncio.create_task(reclaimer.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while client.objects(PERSISTENTVOLUMES):
                await asyncio.sleep(0.01)
                await clock.settle()
        assert not path.exists()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_pods_that_start_with_the_same_volume_take_turns(export: Export, tmp_path: Path) -> None:
    exports = Exports(export, tmp_path / "exports")
    await asyncio.gather(*(exports.make_directory(share()) for _ in range(4)))
    assert os.listdir(export.of) == ["team"]
    assert os.listdir(tmp_path / "exports") == []


async def test_nothing_beside_the_export_is_touched(export: Export, tmp_path: Path) -> None:
    exports = Exports(export, tmp_path / "exports")
    for path in ("/exports", "/exports/../etc", "/other/data"):
        wrong = share()
        wrong["spec"]["nfs"]["path"] = path
        with pytest.raises(VolumeError):
            await exports.remove_directory(wrong)


@pytest.mark.parametrize("on_delete", ["delete", "archive"])
@pytest.mark.parametrize("link", ["team", "team/data"])
async def test_links_in_an_export_lead_nowhere(export: Export, tmp_path: Path, on_delete: str, link: str) -> None:
    outside = tmp_path / "outside"
    (outside / "data").mkdir(parents=True)
    (export.of / link).parent.mkdir(exist_ok=True)
    (export.of / link).symlink_to(outside)
    exports = Exports(export, tmp_path / "exports")
    with pytest.raises((OSError, VolumeError)):
        await exports.make_directory(share())
    with suppress(OSError):
        await exports.remove_directory(share(on_delete))
    assert os.listdir(outside) == ["data"]
    assert (export.of / link).is_symlink()


class Ahead(FakeClient):
    """Its watches lag: who asks is told that the volume is bound."""

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        found = await super().get(resource, name, namespace, subresource=subresource)
        return found | {"status": {"phase": "Bound"}}


@pytest.mark.parametrize("lagging", [False, True])
async def test_what_is_wanted_again_stays(export: Export, tmp_path: Path, lagging: bool) -> None:
    """The policy was changed after the host had been named, or the watch lags behind a claim that got the volume."""
    clock = VirtualClock()
    client = (Ahead if lagging else FakeClient)(clock=clock)
    recorder = EventRecorder(client, "orca-agent", clock=clock)
    exports = Exports(export, tmp_path / "exports")
    reclaimer = Reclaimer(client, "here", exports=exports, recorder=recorder, clock=clock)
    path = tmp_path / "pvc-1_a"
    path.mkdir()
    volume = local(path)
    if not lagging:
        volume["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
    client.seed(PERSISTENTVOLUMES, volume)
    task = asyncio.create_task(reclaimer.run())
    await clock.settle()
    await clock.advance(30)
    task.cancel()
    await asyncio.wait({task})
    assert path.is_dir()
    assert len(client.objects(PERSISTENTVOLUMES)) == 1


async def test_a_host_removes_what_it_was_named_for(export: Export, tmp_path: Path) -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    exports = Exports(export, tmp_path / "exports")
    recorder = EventRecorder(client, "orca-agent", clock=clock)
    reclaimer = Reclaimer(client, "here", exports=exports, recorder=recorder, clock=clock)
    mine, other = tmp_path / "pvc-1_a", tmp_path / "pvc-2_b"
    mine.mkdir()
    (mine / "file").write_text("x")
    other.mkdir()
    client.seed(PERSISTENTVOLUMES, local(mine))
    elsewhere = local(other, node="there")
    elsewhere["metadata"]["name"] = "pvc-2"
    client.seed(PERSISTENTVOLUMES, elsewhere)
    bad = local(Path("/etc"))
    bad["metadata"]["name"] = "pvc-3"
    client.seed(PERSISTENTVOLUMES, bad)
    task = asyncio.create_task(reclaimer.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while mine.exists() or len(client.objects(PERSISTENTVOLUMES)) > 2:
                await asyncio.sleep(0.01)
                await clock.settle()
        await clock.advance(1)
        assert other.is_dir()
        assert {one["metadata"]["name"] for one in client.objects(PERSISTENTVOLUMES)} == {"pvc-2", "pvc-3"}
        assert "/etc was not made for this volume" in {one["message"] for one in client.objects(EVENTS)}
    finally:
        task.cancel()
        await asyncio.wait({task})
