"""Sub paths that stay in their volume, mounts that are read-only in depth, and what removal leaves alone."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import mounts
from agents.volumes import removal, staging


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume; what is mounted below the test's directory is unmounted in the end."""
    made = tmp_path / "volume"
    made.mkdir()
    made.chmod(0o2777)
    yield made
    for mounted in mounts.mounts_below(tmp_path):
        mounts.unmount(mounted)


def opened(volume: Path, sub: str) -> str:
    """The path that a sub path turned out to be."""
    descriptor = staging.open_inside(str(volume), sub)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_a_new_sub_path_is_as_open_as_its_volume(volume: Path) -> None:
    assert opened(volume, "a/b") == str(volume / "a/b")
    assert stat.S_IMODE((volume / "a/b").stat().st_mode) == 0o2777


def test_links_are_followed_inside_only(volume: Path) -> None:
    (volume / "data").mkdir()
    (volume / "data/file").touch()
    (volume / "link").symlink_to("data")
    (volume / "absolute").symlink_to(volume / "data/file")
    assert opened(volume, "link/file") == str(volume / "data/file")
    assert opened(volume, "absolute") == str(volume / "data/file")
    (volume / "etc").symlink_to("/etc")
    (volume / "up").symlink_to("..")
    for bad in ("etc", "etc/passwd", "up", "up/x", "../x", "a/../../x", "/etc"):
        with pytest.raises(staging.LeadsOut):
            opened(volume, bad)
    assert not (volume.parent / "x").exists()


def test_a_directory_that_becomes_a_link_meanwhile_is_not_followed(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume / "a").mkdir()
    look = os.path.realpath

    def looked(path: str | Path) -> str:
        found = look(path)
        if found.endswith("/a/passwd"):
            (volume / "a").rmdir()
            (volume / "a").symlink_to("/etc")
        return found

    monkeypatch.setattr(os.path, "realpath", looked)
    with pytest.raises(OSError, match="Not a directory"):
        opened(volume, "a/passwd")


def test_a_stage_shows_what_was_opened_and_can_be_made_again(volume: Path, tmp_path: Path) -> None:
    (volume / "file").write_text("1")
    target = tmp_path / "stages/app/0"
    for _ in range(2):
        staging.stage(str(volume), "file", target, in_depth=False)
    assert target.read_text() == "1"
    assert mounts.mounts_below(tmp_path) == [target]
    target.write_text("2")
    staging.stage(str(volume), "dir", target.with_name("1"), in_depth=False)
    assert (volume / "file").read_text() == "2"
    assert (volume / "dir").is_dir()


def test_read_only_in_depth_reaches_what_is_mounted_below(volume: Path, tmp_path: Path) -> None:
    (volume / "below").mkdir()
    mounts.mount_tmpfs(volume / "below", mode=0o777)
    target = tmp_path / "stages/app/0"
    staging.stage(str(volume), "", target, in_depth=True)
    for path in (target, target / "below"):
        with pytest.raises(OSError, match="Read-only"):
            (path / "new").touch()
    (volume / "below/new").touch()
    assert (target / "below/new").exists()


def test_removal_unmounts_and_deletes_nothing_of_the_host(volume: Path, tmp_path: Path) -> None:
    (volume / "precious").touch()
    pod = tmp_path / "pod"
    staging.stage(str(volume), "", pod / "volume-stages/app/0", in_depth=False)
    mounts.mount_tmpfs(pod / "volume-stages/app", mode=0o777)
    removal.remove(pod)
    assert not pod.exists()
    assert (volume / "precious").exists()
    removal.remove(pod)


def test_removal_gives_up_while_something_stays_mounted(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume / "precious").touch()
    staging.stage(str(volume), "", tmp_path / "pod/stage", in_depth=False)
    with monkeypatch.context() as patched:
        patched.setattr(mounts, "unmount", lambda path: None)
        with pytest.raises(OSError, match="still mounted"):
            removal.remove(tmp_path / "pod")
    assert (volume / "precious").exists()


def test_a_directory_can_be_shared(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    mounts.mount_tmpfs(private, mode=0o777)
    mounts.make_private(private)
    root = private / "root"
    root.mkdir()
    try:
        for _ in range(2):
            mounts.share(root)
        assert [point.shared for point in mounts.mount_points() if point.path == root] == [True]
        mounts.unshare(root)
        assert not mounts.is_mounted(root)
        mounts.mount_tmpfs(root, mode=0o700)
        mounts.unshare(root)
        assert mounts.is_mounted(root), "a mount of somebody else's"
    finally:
        for mounted in mounts.mounts_below(private):
            mounts.unmount(mounted)
        shutil.rmtree(private)
