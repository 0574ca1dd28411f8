"""Logs of containers that are gone, kept for a while and within bounds."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from agents.runtime import kept_logs
from agents.runtime.kept_logs import KEPT_BYTES, KEPT_PODS, Kept, KeptLogs, superfluous
from agents.runtime.model import ATTEMPT, CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, ContainerInfo
from orca.client.clock import VirtualClock
from tests.unit.pods.build import info as made_up


def kept(name: str, at: float, size: int = 10) -> Kept:
    return Kept(Path(name), at, size)


def names(some: list[Kept]) -> list[str]:
    return sorted(str(one.directory) for one in some)


def test_what_is_an_hour_old_goes() -> None:
    assert names(superfluous([kept("old", 0), kept("new", 1)], 3600)) == ["old"]


def test_the_oldest_go_when_there_are_too_many_or_too_much() -> None:
    many = [kept(str(number), number) for number in range(KEPT_PODS + 2)]
    assert names(superfluous(many, 2000)) == ["0", "1"]
    much = [kept("a", 1, KEPT_BYTES // 2), kept("b", 2, KEPT_BYTES // 2), kept("c", 3, 1), kept("d", 4, KEPT_BYTES + 1)]
    assert names(superfluous(much, 5)) == ["a", "d"], "one that is too large alone takes no other's place"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    directory = tmp_path / "engine" / "containers" / "c1"
    directory.mkdir(parents=True)
    (directory / "c1-json.log").write_text('{"log":"new\\n"}\n')
    (directory / "c1-json.log.1").write_text('{"log":"old\\n"}\n')
    return tmp_path / "engine"


def info() -> ContainerInfo:
    labels = {POD_NAMESPACE: "ns", POD_NAME: "web", POD_UID: "u1"}
    return made_up("main", id="c1", labels={**labels, CONTAINER_NAME: "main", ATTEMPT: "2"})


async def test_logs_are_there_after_the_engine_deleted_them_and_go_after_an_hour(tmp_path: Path, engine: Path) -> None:
    clock = VirtualClock()
    logs = KeptLogs(tmp_path / "pods", clock=clock)
    await logs.keep(info(), str(engine))
    for path in (engine / "containers" / "c1").iterdir():
        path.unlink()
    directory = tmp_path / "pods" / "ns_web_u1"
    assert (directory / "main" / "2.log").read_text() == '{"log":"new\\n"}\n'
    assert (directory / "main" / "2.log.1").read_text() == '{"log":"old\\n"}\n'
    now = clock.now().timestamp()
    os.utime(directory, (now, now))
    (tmp_path / "pods" / "lost+found").mkdir()
    await asyncio.to_thread(logs._sweep)
    assert directory.exists()
    os.utime(directory, (now - 3600, now - 3600))
    await asyncio.to_thread(logs._sweep)
    assert not directory.exists()
    assert (tmp_path / "pods" / "lost+found").exists(), "not ours"


async def test_the_end_is_copied_to_another_file_system(
    tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*paths: Any) -> None:
        raise OSError(errno.EXDEV, "other device")

    monkeypatch.setattr(os, "link", elsewhere)
    monkeypatch.setattr(kept_logs, "COPIED_BYTES", 20)
    (engine / "containers" / "c1" / "c1-json.log").write_text("first line\nsecond line\nthird\n")
    logs = KeptLogs(tmp_path / "pods", clock=VirtualClock())
    await logs.keep(info(), str(engine))
    assert (tmp_path / "pods" / "ns_web_u1" / "main" / "2.log").read_text() == "second line\nthird\n"


async def test_a_container_without_logs_leaves_no_trace_of_failure(tmp_path: Path) -> None:
    logs = KeptLogs(tmp_path / "pods", clock=VirtualClock())
    await logs.keep(info(), str(tmp_path / "none"))
    await logs.clear()
    assert list((tmp_path / "pods").iterdir()) == []
