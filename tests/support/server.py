"""A real `orca server` with its own etcd, on loopback, in a temporary directory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.etcd import free_port


class RunningServer:
    """`orca server` in a directory; may be killed and started again."""

    def __init__(self, directory: Path, *, controllers: bool = False) -> None:
        self._controllers = controllers
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.kubeconfig = directory / "kubeconfig"

    async def start(self) -> None:
        arguments = {
            "data-dir": self._directory / "data",
            "secure-port": self._port,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "kubeconfig": self.kubeconfig,
        }
        self.kubeconfig.unlink(missing_ok=True)
        log = (self._directory / "log").open("ab")
        self._process = subprocess.Popen(  # noqa: ASYNC220 - starts at once, and ends with the test
            [
                sys.executable,
                "-c",
                "from orca.cli import main; main()",
                "server",
                "--controllers" if self._controllers else "--no-controllers",
                *(f"--{name}={value}" for name, value in arguments.items()),
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        async with asyncio.timeout(60):
            while not self.kubeconfig.exists():
                if self._process.poll() is not None:
                    raise RuntimeError((self._directory / "log").read_text()[-4000:])
                await asyncio.sleep(0.05)

    def kill_etcd(self) -> None:
        """Only the child that stores."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "etcd":
                os.kill(int(child), signal.SIGKILL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@asynccontextmanager
async def running_server(*, controllers: bool = False) -> AsyncIterator[RunningServer]:
    """A server, gone with all its data afterwards."""
    with tempfile.TemporaryDirectory(prefix="orca-server-", ignore_cleanup_errors=True) as directory:
        server = RunningServer(Path(directory), controllers=controllers)
        try:
            await server.start()
            yield server
        finally:
            server.kill()
