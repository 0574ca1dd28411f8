"""Files of volumes: what they are, and that they change at once."""

from __future__ import annotations

import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.pods.environment import Place
from agents.volumes import atomic, host_path, payload
from agents.volumes.errors import VolumeError
from agents.volumes.ownership import give_to_group
from agents.volumes.payload import File

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLACE = Place("node", ("10.0.0.1",), (), {"cpu": "2", "memory": "1Gi"})


def test_files_are_seen_through_links_and_swapped_together(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1"), "deep/b": File(b"2", 0o400)}, now=NOW)
    first = os.readlink(tmp_path / "..data")
    assert first.startswith("..2026_01_02_03_04_05.")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert os.readlink(tmp_path / "deep") == "..data/deep"
    assert stat.S_IMODE((tmp_path / "deep/b").stat().st_mode) == 0o400

    assert not atomic.write(tmp_path, {"a": File(b"1"), "deep/b": File(b"2", 0o400)}, now=NOW)
    assert os.readlink(tmp_path / "..data") == first

    assert atomic.write(tmp_path, {"a": File(b"new"), "c": File(b"3")}, now=NOW)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["a", "c"]
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("..2")]) == 1


def test_what_a_crash_left_behind_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "..2026_half").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2026_half")
    atomic.write(tmp_path, {"a": File(b"1")}, now=NOW)
    (tmp_path / "a").unlink()
    assert not atomic.write(tmp_path, {"a": File(b"1")}, now=NOW)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert not (tmp_path / "..2026_half").exists()


def test_a_volume_belongs_to_the_group_from_top_to_bottom(tmp_path: Path) -> None:
    atomic.write(tmp_path / "v", {"a/b": File(b"1", 0o400)}, now=NOW, group=4242)
    for path in ("v", "v/..data/a", "v/a/b"):
        status = (tmp_path / path).stat()
        assert (status.st_gid, status.st_mode & 0o040) == (4242, 0o040)
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o2777
    atomic.write(tmp_path / "w", {}, now=NOW)
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o777


def test_an_empty_source_gives_an_empty_directory(tmp_path: Path) -> None:
    atomic.write(tmp_path / "v", {"a": File(b"1")}, now=NOW)
    atomic.write(tmp_path / "v", {}, now=NOW)
    assert [path.name for path in (tmp_path / "v").iterdir() if not path.name.startswith("..")] == []


def test_items_choose_keys_paths_and_modes() -> None:
    data = {"one": b"1", "two": b"2"}
    items = [{"key": "one", "path": "x/y", "mode": 0o600}, {"key": "two", "path": "z"}]
    assert payload.data_files(data, items, default_mode=0o640, missing="no config", optional=False) == {
        "x/y": File(b"1", 0o600),
        "z": File(b"2", 0o640),
    }
    with pytest.raises(VolumeError, match="no config key: three"):
        payload.data_files(
            data, [{"key": "three", "path": "p"}], default_mode=0o644, missing="no config", optional=False
        )
    assert (
        payload.data_files(data, [{"key": "three", "path": "p"}], default_mode=0o644, missing="s", optional=True) == {}
    )


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "..data", "a//b"])
def test_paths_stay_in_the_volume(path: str) -> None:
    with pytest.raises(VolumeError):
        payload.data_files(
            {"k": b""}, [{"key": "k", "path": path}], default_mode=0o644, missing="no config", optional=False
        )


def test_data_of_both_kinds() -> None:
    config_map = {"data": {"text": "é"}, "binaryData": {"raw": "AAE="}}
    assert payload.config_map_data(config_map) == {"text": "é".encode(), "raw": b"\x00\x01"}
    assert payload.secret_data({"data": {"password": "c2VjcmV0"}}) == {"password": b"secret"}


def test_the_downward_api() -> None:
    pod = {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "u",
            "labels": {"b": 'say "hi"', "a": "1"},
            "annotations": {"note": "two\nlines"},
        },
        "spec": {"containers": [{"name": "app", "resources": {"limits": {"cpu": "250m"}}}]},
    }
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400},
        {"path": "one", "fieldRef": {"fieldPath": "metadata.labels['a']"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu", "divisor": "1m"}},
    ]
    files = payload.downward_files(pod, items, PLACE, default_mode=0o644)
    assert {path: file.content.decode() for path, file in files.items()} == {
        "labels": 'a="1"\nb="say \\"hi\\""',
        "annotations": 'note="two\\nlines"',
        "name": "web",
        "one": "1",
        "cpu": "250",
    }
    assert files["name"].mode == 0o400
    items = [{"path": "x", "fieldRef": {"fieldPath": "spec.secret"}}]
    with pytest.raises(VolumeError, match=r"spec\.secret"):
        payload.downward_files(pod, items, PLACE, default_mode=0o644)


def test_a_group_gets_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "v/sub").mkdir(parents=True)
    (tmp_path / "v/file").write_text("x")
    os.chmod(tmp_path / "v/file", 0o600)
    (tmp_path / "v/link").symlink_to("/etc/passwd")
    before = os.stat("/etc/passwd")
    give_to_group(tmp_path / "v", 4242)
    for entry, mode in (("v", 0o2775), ("v/sub", 0o2775), ("v/file", 0o660)):
        status = (tmp_path / entry).stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode) & 0o2770) == (4242, mode & 0o2770)
    after = os.stat("/etc/passwd")
    assert (after.st_gid, after.st_mode) == (before.st_gid, before.st_mode)


def test_a_group_change_can_depend_on_the_top(tmp_path: Path) -> None:
    give_to_group(tmp_path, 4242)
    (tmp_path / "later").write_text("x")
    os.chown(tmp_path / "later", 0, 0)
    give_to_group(tmp_path, 4242, only_on_mismatch=True)
    assert (tmp_path / "later").stat().st_gid == 0
    give_to_group(tmp_path, 4243, only_on_mismatch=True)
    assert (tmp_path / "later").stat().st_gid == 4243


def test_host_paths_of_every_type(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("x")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "sock"))
    good = {"Directory": "dir", "File": "file", "Socket": "sock"}
    for kind, name in (good | {"DirectoryOrCreate": "new/dir", "FileOrCreate": "fresh"}).items():
        assert host_path.prepare(str(tmp_path / name), kind) == str(tmp_path / name)
    assert (tmp_path / "new/dir").is_dir()
    assert (tmp_path / "fresh").is_file()
    assert host_path.prepare("/dev/null", "CharDevice") == "/dev/null"
    unsaid = tmp_path / "of" / "no" / "type"
    assert host_path.prepare(str(unsaid), "") == str(unsaid)
    assert unsaid.is_dir()
    assert host_path.prepare(str(tmp_path / "file"), "") == str(tmp_path / "file")
    for kind, name, words, found in (
        ("Directory", "file", "directory", "File"),
        ("File", "dir", "file", "Directory"),
        ("Socket", "file", "socket file", "File"),
        ("CharDevice", "sock", "character device", "Socket"),
        ("BlockDevice", "dir", "block device", "Directory"),
        ("DirectoryOrCreate", "file", "directory", "File"),
        ("FileOrCreate", "dir", "file", "Directory"),
    ):
        with pytest.raises(VolumeError, match=f"type check failed: .*{name} is not a {words}, it's a {found}$"):
            host_path.prepare(str(tmp_path / name), kind)
    with pytest.raises(VolumeError, match=r"hostPath .*missing doesn't exist"):
        host_path.prepare(str(tmp_path / "missing"), "BlockDevice")
    with pytest.raises(FileNotFoundError):
        host_path.prepare(str(tmp_path / "missing/dir/file"), "FileOrCreate")
    listener.close()
