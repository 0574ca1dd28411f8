"""Where audit lines go: a rotated file, or standard output. Written in batches by a thread, never by the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

log = structlog.get_logger()

GATHER_SECONDS = 0.05
FULL = 20_000
"""Lines that may wait to be written; requests wait when there are more, so none is lost."""
_NEWLINE = ord("\n")
_STAMP = "%Y-%m-%dT%H-%M-%S.%f"
_STAMPED = re.compile(r"^(?P<stem>.+)-(?P<at>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3})(?P<suffix>\.[^.]*)?$")


@dataclass(frozen=True, slots=True)
class Rotation:
    """``megabytes`` a file may have, ``backups`` and ``days`` old ones are kept; 0 is no limit."""

    megabytes: int = 100
    backups: int = 100
    days: int = 366


class RotatedFile:
    """Appends to a file and renames it when it is full. Used by one thread at a time."""

    def __init__(self, path: Path, rotation: Rotation) -> None:
        self._path = path
        self._rotation = rotation
        self._file = -1
        self._size = 0
        self._torn = False  # whether half a line is the last thing in the file

    def open(self) -> None:
        """Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        self._torn = bool(self._size) and not _ends_with_a_line(self._path)

    def write(self, lines: list[bytes]) -> None:
        """All lines, none torn apart by a rotation. Raises OSError."""
        if self._file < 0:
            self.open()
        limit = self._rotation.megabytes << 20
        held: list[bytes] = []
        size = 0
        for line in lines:
            if limit and self._size + size + len(line) > limit and self._size + size:
                self._append(held)
                held, size = [], 0
                self._rotate()
            held.append(line)
            size += len(line)
        self._append(held)

    def _append(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join([b"\n", *lines] if self._torn and lines else lines))
        while data:
            written = os.write(self._file, data)
            self._torn = data[written - 1] != _NEWLINE
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        self.close()
        stamp = datetime.now(UTC).strftime(_STAMP)[:-3]
        path = self._path
        os.replace(path, path.with_name(f"{path.stem}-{stamp}{path.suffix}"))
        self.open()
        self._prune()

    def _prune(self) -> None:
        kept = sorted(self._backups(), reverse=True)
        oldest = datetime.now(UTC) - timedelta(days=self._rotation.days)
        for at, (when, path) in enumerate(kept):
            too_many = self._rotation.backups and at >= self._rotation.backups
            too_old = self._rotation.days and when < oldest
            if too_many or too_old:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _backups(self) -> list[tuple[datetime, Path]]:
        found = []
        for path in self._path.parent.iterdir():
            match = _STAMPED.match(path.name)
            if match and match["stem"] == self._path.stem and (match["suffix"] or "") == self._path.suffix:
                when = datetime.strptime(match["at"] + "000", _STAMP).replace(tzinfo=UTC)
                found.append((when, path))
        return found

    def close(self) -> None:
        """Harmless when it is not open."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _ends_with_a_line(path: Path) -> bool:
    """A disk that was full, or a machine that failed, leaves half of one."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class _Stdout:
    def write(self, lines: list[bytes]) -> None:
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass


class AuditLog:
    """``put`` is cheap and never waits; ``run`` writes until it is cancelled, ``close`` writes the rest."""

    def __init__(self, path: str, rotation: Rotation | None = None) -> None:
        self._target = _Stdout() if path == "-" else RotatedFile(Path(path), rotation or Rotation())
        self._lines: list[bytes] = []
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self.written = 0
        self.lost = 0

    def open(self) -> None:
        """Raises OSError when nothing can be written there."""
        self._target.open()

    @property
    def full(self) -> bool:
        """Whether requests should wait for ``drained``."""
        return len(self._lines) > FULL

    def put(self, line: bytes) -> None:
        """One event, with its newline."""
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    async def drained(self) -> None:
        """Waits until there is room again."""
        while self.full:
            await self.flush()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what there is."""
        async with self._writing:
            lines, self._lines = self._lines, []
            self._wake.clear()
            if not lines:
                return
            # Shielded: lines that were taken are written, also when who wrote them is cancelled.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._write, lines))

    def _write(self, lines: list[bytes]) -> None:
        try:
            self._target.write(lines)
            self.written += len(lines)
        except OSError as error:
            self.lost += len(lines)
            log.error("audit events could not be written", lines=len(lines), error=str(error))

    async def close(self) -> None:
        """Everything that was put is written."""
        await self.flush()
        await asyncio.to_thread(self._target.close)
