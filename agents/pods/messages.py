"""A container's last words: its termination message."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agents.runtime.errors import RuntimeFailure
from agents.runtime.model import TERMINATION_POLICY, ContainerInfo

MESSAGE_LIMIT = 4096
LOG_LIMIT = 2048
LOG_LINES = 80


class LogTail(Protocol):
    """The part of the runtime that answers the end of a log."""

    async def log_tail(self, container_id: str, lines: int) -> bytes: ...


async def read_message(info: ContainerInfo, path: Path, runtime: LogTail) -> str:
    """The termination file; when it is empty, the policy FallbackToLogsOnError and a failure give the log's end."""
    try:
        with path.open("rb") as file:
            text = file.read(MESSAGE_LIMIT).decode(errors="replace")
    except OSError:
        text = ""
    if text or info.exit_code == 0 or info.labels.get(TERMINATION_POLICY) != "FallbackToLogsOnError":
        return text
    try:
        tail = await runtime.log_tail(info.id, LOG_LINES)
    except RuntimeFailure as error:
        return f"Error on reading termination message from logs: {error}"
    return tail[-LOG_LIMIT:].decode(errors="replace")
