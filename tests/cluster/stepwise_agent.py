"""`orca-agent` that notes every step it takes for pods, and kills itself with SIGKILL at the one it was told.

    python -m tests.cluster.stepwise_agent DIRECTORY -- <arguments of orca-agent>

Steps are calls to the engine that change something, writes to the API, netlink messages, mounts, programs that are
run, and whatever is written below the agent's directory. Engine calls and writes to the API are noted when they have
been answered, everything else just before it happens, which is right after what came before. ``DIRECTORY/steps`` gets
a line a step. Counting begins when ``DIRECTORY/target`` is there: it says at which step to die, 0 for never.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = "/var/lib/orca-agent/"
FILES = {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    """Counts; dies at the step it was told."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = self._count = self._target = -1

    def listen(self) -> None:
        """Begin a count whenever somebody wants one."""
        wish = self._directory / "target"
        (self._directory / "ready").touch()
        while True:
            if wish.exists():
                self._count = -1
                self._target = int(wish.read_text())
                wish.unlink()
                self._file = os.open(self._directory / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                self._count = 0
            time.sleep(0.01)

    def take(self, what: str) -> None:
        if self._count < 0:
            return
        self._count += 1
        os.write(self._file, f"{self._count} {what}\n".encode())
        if self._count == self._target:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What Python tells of itself before it does something."""
        if self._count < 0:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and path.startswith(ROOT) and flags & WRITING:
                self.take(f"write {_general(path)}")
        elif event in FILES:
            path = arguments[0]
            if not isinstance(path, str) or not path.startswith(ROOT):
                return
            if event != "os.mkdir" or not os.path.isdir(path):  # makedirs tries what is there
                self.take(f"{event} {_general(path)}")
        elif event == "subprocess.Popen":
            self.take(f"run {os.path.basename(str(arguments[0]))}")


class Kernel:
    """libc, with a step before each call that mounts."""

    def __init__(self, libc: Any, steps: Steps) -> None:
        self._libc, self._steps = libc, steps

    def __getattr__(self, name: str) -> Callable[..., int]:
        call: Callable[..., int] = getattr(self._libc, name)

        def noted(*arguments: Any) -> int:
            self._steps.take(name)
            return call(*arguments)

        return noted


def _general(path: str) -> str:
    """A path without what differs from pod to pod."""
    parts = path.removeprefix(ROOT).split("/")
    return "/".join("<uid>" if len(part) == 36 and part.count("-") == 4 else part for part in parts)


def watch(steps: Steps) -> None:
    """Put the steps between the agent and what it changes."""
    from agents import mounts
    from agents.network.netlink import RouteSocket
    from agents.pods.records import ApiRecords
    from agents.runtime.engine import Engine

    plain = Engine.stream

    @asynccontextmanager
    async def stream(self: Engine, method: str, path: str, **options: Any) -> AsyncIterator[Any]:
        async with plain(self, method, path, **options) as response:
            if method != "GET":
                parts = ["<id>" if len(part) == 64 else part for part in path.split("/")]
                steps.take(f"engine {method} {'/'.join(parts)}")
            yield response

    _before(RouteSocket, "apply", steps)
    Engine.stream = stream  # type: ignore[method-assign,assignment]
    for name in ("write_status", "delete"):
        _after(ApiRecords, name, steps)
    mounts._libc = Kernel(mounts._libc, steps)  # type: ignore[assignment]
    sys.addaudithook(steps.audit)


def _before(owner: type, name: str, steps: Steps) -> None:
    call = getattr(owner, name)

    def noted(*arguments: Any, **options: Any) -> Any:
        steps.take(f"netlink {name}")
        return call(*arguments, **options)

    setattr(owner, name, noted)


def _after(owner: type, name: str, steps: Steps) -> None:
    call = getattr(owner, name)

    async def noted(*arguments: Any, **options: Any) -> Any:
        answer = await call(*arguments, **options)
        steps.take(f"api {name}")
        return answer

    setattr(owner, name, noted)


def main() -> None:
    """As `orca-agent`."""
    steps = Steps(Path(sys.argv[1]))
    sys.argv = ["orca-agent", *sys.argv[3:]]
    from agents.cli import main as agent

    watch(steps)
    threading.Thread(target=steps.listen, daemon=True).start()
    agent()


if __name__ == "__main__":
    main()
