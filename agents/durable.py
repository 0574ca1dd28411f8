"""Files that are whole after a power cut, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from orca.api.objects import Obj

MOST_BYTES = 64 << 20
"""More than any state of ours has."""


def write_file(directory: Path, file_name: str, text: str) -> None:
    """Put a file into a directory, which is made when it is missing. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / f"{file_name}.new"
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / file_name)


def read_object(path: Path) -> Obj:
    """The JSON object in a file, whatever somebody may have put in its place. Raises OSError (FileNotFoundError when
    it is not there) and ValueError."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES} bytes")
    found = orjson.loads(raw)  # its errors are ValueErrors, also for what is nested too deeply
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
