"""The cgroup of a host: it holds every process that the host runs, containers included, so that power can be cut.

Works on cgroup v2 and on v1, where the ``pids`` hierarchy is the one that is asked who belongs to a host.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
KILL_SECONDS = 60.0


def is_v2() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _membership_root() -> Path:
    return ROOT if is_v2() else ROOT / "pids"


def _hierarchies() -> list[Path]:
    if is_v2():
        return [ROOT]
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def enter_command(path: str) -> str:
    """A shell fragment that puts the running shell into a cgroup below ``path``'s ``system`` leaf."""
    leaf = _membership_root() / path / "system"
    leaf.mkdir(parents=True, exist_ok=True)
    return f"echo $$ > {leaf}/cgroup.procs"


def processes(path: str) -> list[int]:
    """Process ids of every process in the cgroup or below it."""
    found: list[int] = []
    for directory in _tree(_membership_root() / path):
        try:
            found += [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
        except (FileNotFoundError, OSError):
            continue
    return found


def kill(path: str) -> list[int]:
    """SIGKILL everything in the cgroup until nothing is left; returns what still lives after ``KILL_SECONDS``."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := processes(path)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    return left


def remove(path: str) -> None:
    """Remove the (empty) cgroup and all below it from every hierarchy."""
    deadline = time.monotonic() + KILL_SECONDS
    for hierarchy in _hierarchies():
        for directory in _tree(hierarchy / path):
            while True:
                try:
                    directory.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:  # a process that was just killed is still being reaped
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.02)


def _tree(top: Path) -> Iterator[Path]:
    """Directories below ``top``, deepest first, then ``top``."""
    if top.is_dir():
        for parent, _, _ in os.walk(top, topdown=False):
            yield Path(parent)
