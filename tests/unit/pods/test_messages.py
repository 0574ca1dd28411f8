"""Last words of containers, honest and hostile ones."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.pods.messages import MESSAGE_LIMIT, read_message
from agents.pods.observer import Observer
from agents.runtime.model import TERMINATION_POLICY
from tests.unit.pods.build import info, pod, spec_container, up


class Log:
    """Has no end that could be read in time."""

    async def log_tail(self, container_id: str, lines: int) -> bytes:
        raise TimeoutError


async def test_the_end_of_a_long_message_is_told(tmp_path: Path) -> None:
    path = tmp_path / "message"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"x" * MESSAGE_LIMIT + b"the end")
    told = await read_message(info(), path, Log())
    assert len(told) == MESSAGE_LIMIT
    assert told.endswith("xthe end")


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "device"])
async def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path, kind: str) -> None:
    path, secret = tmp_path / "message", tmp_path / "secret"
    secret.write_text("of the host")
    {
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(secret),
        "directory": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
    }[kind]()
    assert (await read_message(info(), path, Log())).startswith(f"Error on reading termination log {path}: ")


async def test_no_file_is_no_message(tmp_path: Path) -> None:
    assert await read_message(info(), tmp_path / "none", Log()) == ""


async def test_a_log_that_does_not_answer_is_said(tmp_path: Path) -> None:
    failed = info(exit_code=1, labels={TERMINATION_POLICY: "FallbackToLogsOnError"})
    told = await read_message(failed, tmp_path / "none", Log())
    assert told == "Error on reading termination message from logs: timed out"


async def test_what_the_api_has_been_told_stays_when_the_file_is_gone(tmp_path: Path) -> None:
    """An agent that is killed between a pod's files and its object leaves them to the next one."""
    container = spec_container("c")
    ended = info(container, "exited", code=3, finished=1)
    told = {"name": "c", "state": {"terminated": {"containerID": f"docker://{ended.id}", "message": "sorry"}}}
    obj, memory = {**pod(container), "status": {"containerStatuses": [told]}}, up()
    memory.image_details[ended.image_id] = SimpleNamespace()  # type: ignore[assignment]
    subject: Any = SimpleNamespace(pod=obj, memory=memory)
    tools: Any = SimpleNamespace(runtime=Log(), config=SimpleNamespace(root=tmp_path))
    await Observer(subject, tools).take_in(ended)
    assert memory.messages == {ended.id: "sorry"}
