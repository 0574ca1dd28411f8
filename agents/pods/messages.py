"""A container's last words: its termination message."""

from __future__ import annotations

import errno
import os
import stat
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
    text = ""
    try:
        text = _end_of(path).decode(errors="replace")
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"Error on reading termination log {path}: {error.strerror or error}"
    if text or info.exit_code == 0 or info.labels.get(TERMINATION_POLICY) != "FallbackToLogsOnError":
        return text
    try:
        tail = await runtime.log_tail(info.id, LOG_LINES)
    except (RuntimeFailure, TimeoutError) as error:
        return f"Error on reading termination message from logs: {str(error) or 'timed out'}"
    return tail[-LOG_LIMIT:].decode(errors="replace")


def _end_of(path: Path) -> bytes:
    """The last bytes of a regular file, as upstream takes them; OSError for anything else that was put in its place,
    without waiting for a pipe or following a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        file.seek(max(status.st_size - MESSAGE_LIMIT, 0))
        return file.read(MESSAGE_LIMIT)
