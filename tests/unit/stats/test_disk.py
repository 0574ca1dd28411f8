"""Counting trees, and not counting them too often."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.stats.disk import BLOCK, NOTHING, Counted, Ledger, count_files, count_logs, count_tree, filesystem
from agents.volumes import mounts


def blocks(path: Path) -> int:
    return os.lstat(path).st_blocks * BLOCK


def test_a_tree_counts_every_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b").write_bytes(b"y" * 50_000)
    os.sync()
    os.link(tmp_path / "a", tmp_path / "below" / "same")
    (tmp_path / "below" / "link").symlink_to("/etc")
    counted = count_tree(str(tmp_path))
    present = [tmp_path, *(tmp_path / one for one in ("a", "below", "below/b", "below/link"))]
    assert counted == Counted(sum(blocks(one) for one in present), 5)


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert count_tree(str(tmp_path / "gone")) == NOTHING
    assert count_logs(str(tmp_path / "gone" / "log")) == NOTHING
    assert count_files(str(tmp_path / "gone")) == NOTHING
    assert filesystem(tmp_path / "gone", datetime.now(UTC)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_another_file_system_below_is_not_counted(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    before = count_tree(str(tmp_path))
    mounts.mount_tmpfs(below, mode=0o755, size=1 << 20)
    try:
        (below / "there").write_bytes(b"t" * 65536)
        assert (
            count_tree(str(tmp_path)).inodes == before.inodes - 1
        )  # not even the directory, which is the other's root
        assert count_tree(str(below)).used >= 65536
    finally:
        mounts.unmount(below)


def test_rotated_logs_count_and_others_do_not(tmp_path: Path) -> None:
    for name in ("x-json.log", "x-json.log.1", "config.v2.json"):
        (tmp_path / name).write_bytes(b"l" * 10_000)
    os.sync()
    counted = count_logs(str(tmp_path / "x-json.log"))
    assert counted == Counted(blocks(tmp_path / "x-json.log") + blocks(tmp_path / "x-json.log.1"), 2)


def test_a_dear_tree_is_counted_seldom() -> None:
    now, counts = [0.0], []

    def count(path: str) -> Counted:
        counts.append(path)
        now[0] += 2.0 if path == "large" else 0.001
        return Counted(len(counts), 1)

    ledger = Ledger(count, lambda: now[0])
    for _ in range(20):
        ledger.count("small", 5.0)
        ledger.count("large", 5.0)
        now[0] += 6.0
    assert counts.count("small") == 20
    assert counts.count("large") == 2  # each took 2 s, so the next is due after 100
    ledger.keep({"small"})
    ledger.count("large", 5.0)
    assert counts.count("large") == 3


def test_a_whole_file_system(tmp_path: Path) -> None:
    whole = filesystem(tmp_path, datetime.now(UTC))
    part = filesystem(tmp_path, datetime.now(UTC), Counted(7, 1))
    assert whole is not None
    assert part is not None
    assert whole.capacity >= whole.available > 0
    assert (part.used, part.inodes_used, part.device) == (7, 1, whole.device)
