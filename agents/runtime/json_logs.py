"""Reads the files of the engine's json-file log driver, oldest first, across rotation.

Not through the engine: when a log is rotated while it is followed, Engine 20.10 repeats lines and ends the stream with
"Error grabbing logs" inside it (*measured*: 200 of 1,500 lines came twice). The files are simple: `<path>` is written,
`<path>.1` was before it, and so on; each line is {"log": text, "stream": name, "time": RFC 3339}.
"""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import orjson

BATCH_BYTES = 1 << 18
BLOCK_BYTES = 1 << 16
MAX_FILES = 100


class JsonLogReader:
    """Blocking; call it from a thread. `read` gives text as it was written, b"" at the present end."""

    def __init__(
        self,
        path: Path,
        *,
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
        streams: frozenset[str] = frozenset({"stdout", "stderr"}),
    ) -> None:
        """Raises OSError when there is no such file."""
        self._path = path
        self._since = _moment(since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")) if since else None
        self._timestamps = timestamps
        self._streams = streams
        self._rest = b""
        self._inside_line: dict[str, bool] = {}
        self._file = self._open_first(tail)

    def __repr__(self) -> str:
        return f"<JsonLogReader {self._path}>"

    def close(self) -> None:
        self._file.close()

    def read(self) -> bytes:
        """The next output that is wanted; b"" when everything written so far was given."""
        while True:
            raw = self._file.read(BATCH_BYTES)
            if not raw:
                if not self._next_file():
                    return b""
                continue
            *lines, self._rest = (self._rest + raw).split(b"\n")
            if output := b"".join(map(self._render, lines)):
                return output

    def _render(self, line: bytes) -> bytes:
        try:
            entry = orjson.loads(line)
            text, stream, time = str(entry["log"]), str(entry.get("stream", "stdout")), str(entry.get("time", ""))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return b""  # An engine that was killed leaves half a line behind.
        if stream not in self._streams or (self._since is not None and _moment(time) < self._since):
            return b""
        begins = not self._inside_line.get(stream)
        # Lines longer than 16 KiB come in parts; only the last one ends with a newline.
        self._inside_line[stream] = not text.endswith("\n")
        stamp = "{}.{}Z ".format(*_moment(time)) if self._timestamps and begins else ""
        return (stamp + text).encode("utf-8", "surrogatepass")

    # --- files ----------------------------------------------------------------------------------------------------

    def _paths(self) -> list[Path]:
        """Files that exist, the newest first."""
        older = (self._path.with_name(f"{self._path.name}.{number}") for number in range(1, MAX_FILES))
        found = [self._path]
        for path in older:
            if not path.exists():
                break
            found.append(path)
        return found

    def _open_first(self, tail: int | None) -> io.BufferedReader:
        if tail is None:
            return self._open(self._paths()[-1])
        wanted = tail
        paths = self._paths()
        for path in paths:
            file = self._open(path)
            wanted -= _seek_back(file, wanted)
            if wanted <= 0 or path == paths[-1]:
                return file
            file.close()
        return self._open(self._path)

    @staticmethod
    def _open(path: Path) -> io.BufferedReader:
        return path.open("rb")

    def _next_file(self) -> bool:
        """At the end of the current file: go on to the one written after it; False when there is none."""
        status = os.fstat(self._file.fileno())
        paths = self._paths()
        inodes = [_inode(path) for path in paths]
        if inodes[0] == status.st_ino:
            if status.st_size < self._file.tell():
                # Kept as one file, the log is cut instead of renamed.
                self._file.seek(0)
                self._rest = b""
                return True
            return False
        if status.st_size > self._file.tell():
            return True  # Written to just before it was renamed.
        position = inodes.index(status.st_ino) if status.st_ino in inodes else len(paths)
        try:
            following = self._open(paths[position - 1])
        except FileNotFoundError:
            return False  # Renamed this moment; the next call sees the new names.
        self._file.close()
        self._file, self._rest = following, b""
        return True


def _seek_back(file: io.BufferedReader, lines: int) -> int:
    """Place the file before its last `lines` lines; answers how many it has, at most `lines`."""
    end = position = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0 and lines > 0:
        step = min(BLOCK_BYTES, position)
        position -= step
        file.seek(position)
        block = file.read(step)
        cut = len(block)
        while (cut := block.rfind(b"\n", 0, cut)) >= 0:
            if position + cut + 1 == end:
                continue  # Ends the last line.
            found += 1
            if found == lines:
                file.seek(position + cut + 1)
                return lines
    file.seek(0 if lines > 0 else end)
    return found + 1 if end and lines > 0 else found


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1


def _moment(time: str) -> tuple[str, str]:
    """Seconds and nine digits of an RFC 3339 time in UTC, comparable and ready to print."""
    seconds, _, fraction = time.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")
