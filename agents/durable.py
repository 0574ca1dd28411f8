"""Files that are whole after a power cut, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(directory: Path, file_name: str, text: str) -> None:
    """Put a file into a directory, which is made when it is missing. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / f"{file_name}.new"
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / file_name)
