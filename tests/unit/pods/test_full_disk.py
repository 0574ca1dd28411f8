"""A host whose disk refuses: pods say so and wait, nothing of what runs is harmed."""

import errno
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from agents.pods import steps
from agents.pods.actions import Actions
from agents.pods.sandboxes import _write_in_place
from agents.pods.subject import Subject
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.unit.pods.build import info, pod, spec_container, up

FULL = OSError(errno.ENOSPC, "No space left on device", "/var/lib/orca-agent/pods/u1/resolv.conf")


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def event(self, subject: Obj, kind: str, reason: str, message: str, *, field_path: str = "") -> None:
        self.told.append((reason, message))


class Refused(Actions):
    """Actions on a disk that is full."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    async def _run(self, action: steps.Action) -> None:
        raise FULL


@pytest.mark.parametrize(
    ("action", "key", "reason", "event"),
    [
        (steps.Wire(), "network", "ContainerCreating", "FailedCreatePodSandBox"),
        (steps.MakeSandbox(0), "network", "ContainerCreating", "FailedCreatePodSandBox"),
        (steps.StartContainer("c", 0), "start:c", "CreateContainerError", "Failed"),
        (steps.Remove("x"), "remove:x", "ContainerCreating", None),
    ],
)
async def test_what_the_disk_refuses_is_told_and_tried_again(
    action: steps.Action, key: str, reason: str, event: str | None
) -> None:
    memory, recorder = up(info(spec_container())), Recorder()
    recorder_: Any = recorder
    subject = Subject(pod(), memory, VirtualClock(), recorder_, lambda: None)
    await Refused(subject).run(action)
    assert memory.failures[key].reason == reason
    assert "No space left on device" in memory.failures[key].message
    assert [reason for reason, _ in recorder.told] == ([event] if event else [])


def test_files_that_containers_have_mounted_keep_their_inode(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.touch()
    inode = path.stat().st_ino
    for text in ("127.0.0.1 localhost\n", "short\n", "a much longer text than before\n"):
        _write_in_place(path, text)
        assert path.read_text() == text
        assert path.stat().st_mode & 0o777 == 0o644
    assert path.stat().st_ino == inode


def test_a_file_that_cannot_be_written_keeps_what_it_says(tmp_path: Path) -> None:
    """A limit on the size of files refuses a write as a full disk does."""
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with pytest.raises(OSError, match="too large"):
            _write_in_place(path, "something else")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "127.0.0.1 localhost\n"
