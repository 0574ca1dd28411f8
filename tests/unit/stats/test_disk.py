"""Counting trees, and not counting them too often."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents import mounts
from agents.stats.disk import BLOCK, NOTHING, Counted, Ledger, count_files, count_logs, filesystem, walk


def blocks(path: Path) -> int:
    return os.lstat(path).st_blocks * BLOCK


def _counted(root: str) -> Counted:
    *_, whole = NOTHING, *walk(root)
    return whole


def test_a_tree_counts_every_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b").write_bytes(b"y" * 50_000)
    os.sync()
    os.link(tmp_path / "a", tmp_path / "below" / "same")
    (tmp_path / "below" / "link").symlink_to("/etc")
    counted = _counted(str(tmp_path))
    present = [tmp_path, *(tmp_path / one for one in ("a", "below", "below/b", "below/link"))]
    assert counted == Counted(sum(blocks(one) for one in present), 5)


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert _counted(str(tmp_path / "gone")) == NOTHING
    assert count_logs(str(tmp_path / "gone" / "log")) == NOTHING
    assert count_files(str(tmp_path / "gone")) == NOTHING
    assert filesystem(tmp_path / "gone", datetime.now(UTC)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_another_file_system_below_is_not_counted(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    before = _counted(str(tmp_path))
    mounts.mount_tmpfs(below, mode=0o755, size=1 << 20)
    try:
        (below / "there").write_bytes(b"t" * 65536)
        assert _counted(str(tmp_path)).inodes == before.inodes - 1  # not even the directory, which is the other's root
        assert _counted(str(below)).used >= 65536
    finally:
        mounts.unmount(below)


def test_rotated_logs_count_and_others_do_not(tmp_path: Path) -> None:
    for name in ("x-json.log", "x-json.log.1", "config.v2.json"):
        (tmp_path / name).write_bytes(b"l" * 10_000)
    os.sync()
    counted = count_logs(str(tmp_path / "x-json.log"))
    assert counted == Counted(blocks(tmp_path / "x-json.log") + blocks(tmp_path / "x-json.log.1"), 2)


class Trees:
    """Walks over made-up trees, in virtual time."""

    def __init__(self, **steps: int) -> None:
        self.now = 0.0
        self.steps = steps
        """Of each tree, a tenth of a second and ten bytes each."""
        self.begun: list[str] = []
        self.ledger = Ledger(self.walk, lambda: self.now)

    def walk(self, path: str) -> Iterator[Counted]:
        self.begun.append(path)
        for number in range(1, self.steps[path] + 1):
            self.now += 0.1
            yield Counted(10 * number, number)

    def measure(self, *paths: str, max_age: float = 5) -> dict[str, int]:
        self.ledger.begin()
        return {path: self.ledger.count(path, max_age).used for path in paths or self.steps}


def test_a_large_tree_is_counted_bit_by_bit_and_holds_nobody_up() -> None:
    trees = Trees(large=10, small=1)
    found = [trees.measure() for _ in range(4)]
    # A quarter of a second at a time: three steps.
    assert [one["large"] for one in found] == [30, 60, 90, 100]
    assert all(one["small"] == 10 for one in found)
    assert trees.now < 4 * 0.4 + 0.1
    assert trees.begun.count("large") == 1


def test_many_large_trees_share_the_time_of_a_measurement() -> None:
    trees = Trees(**{f"t{number}": 50 for number in range(20)})
    began = trees.now
    found = trees.measure()
    assert trees.now - began < 1.0 + 0.2 + 20 * 0.1 + 0.01
    assert all(used >= 10 for used in found.values())  # each gets on


def test_a_dear_tree_is_counted_seldom() -> None:
    trees = Trees(small=1, large=20)
    for _ in range(130):
        trees.measure(max_age=0.5)
        trees.now += 1
    assert trees.begun.count("small") > 15  # a tenth of a second, so every five
    assert trees.begun.count("large") == 2  # two seconds, so every hundred


def test_what_was_more_before_counts_until_the_next_walk_is_through() -> None:
    trees = Trees(tree=6)
    assert [trees.measure()["tree"] for _ in range(3)] == [30, 60, 60]  # that it is through is seen at the third
    trees.steps["tree"] = 5
    trees.now += 100
    assert [trees.measure()["tree"] for _ in range(2)] == [60, 50]


def test_what_is_gone_is_forgotten() -> None:
    trees = Trees(small=1, gone=1)
    trees.measure()
    trees.ledger.keep({"small"})
    trees.measure()
    assert trees.begun == ["small", "gone", "gone"]


def test_a_whole_file_system(tmp_path: Path) -> None:
    whole = filesystem(tmp_path, datetime.now(UTC))
    part = filesystem(tmp_path, datetime.now(UTC), Counted(7, 1))
    assert whole is not None
    assert part is not None
    assert whole.capacity >= whole.available > 0
    assert (part.used, part.inodes_used, part.device) == (7, 1, whole.device)
