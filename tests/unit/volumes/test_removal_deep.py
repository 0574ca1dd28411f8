"""What a container left behind to keep its pod from going."""

import os
from pathlib import Path

from agents.volumes.removal import remove


def test_directories_nested_without_end_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "volume"
    top.mkdir()
    (top / "link").symlink_to(tmp_path)
    current = os.open(top, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("a" * 30, dir_fd=current)
            deeper = os.open("a" * 30, os.O_RDONLY, dir_fd=current)
            os.close(current)
            current = deeper
        os.close(os.open("file", os.O_CREAT, dir_fd=current))
    finally:
        os.close(current)
    remove(top)
    assert not top.exists()
    assert tmp_path.exists(), "links are not followed"
