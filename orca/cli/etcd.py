"""etcd as a child process of the server: private, restarted when it dies, never left behind.

It listens on a unix socket in the data directory, so that no other user of the machine can reach the cluster's state.
The kernel kills it when the server dies, however that happens (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

_SOCKET = "client.sock:0"  # etcd wants "host:port" after unix:// and takes it as the file's name
_PEER_SOCKET = "peer.sock:0"
_PR_SET_PDEATHSIG = 1
_QUOTA_BYTES = 8 << 30
START_SECONDS = 30.0
RESTART_SECONDS = 0.2
STOP_SECONDS = 5.0


class EtcdMissing(Exception):
    """No etcd program on this machine."""


class EtcdChild:
    """One etcd below ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def endpoint(self) -> str:
        """For the store."""
        return f"unix:{self._directory.absolute() / _SOCKET}"

    async def start(self) -> None:
        """Start it and wait for its socket. Raises EtcdMissing, RuntimeError when it ends at once."""
        program = shutil.which("etcd")
        if program is None:
            raise EtcdMissing(
                "etcd is not installed (Debian: apt-get install etcd-server), or name one by --etcd-servers"
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        for name in (_SOCKET, _PEER_SOCKET):
            (self._directory / name).unlink(missing_ok=True)
        peer = "http://127.0.0.1:2380"  # a name only: a single member has no peers
        arguments = {
            "name": "orca",
            "data-dir": str(self._directory.absolute() / "data"),
            "listen-client-urls": f"unix://{_SOCKET}",
            "advertise-client-urls": f"unix://{_SOCKET}",
            "listen-peer-urls": f"unix://{_PEER_SOCKET}",
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"orca={peer}",
            # Alone it has nobody to wait for, but starts only after what it takes for an election timeout: 1 s.
            "heartbeat-interval": "30",
            "election-timeout": "150",
            "quota-backend-bytes": str(_QUOTA_BYTES),
            "logger": "zap",
            "log-outputs": "stderr",
            "log-level": "error",
        }
        self._process = await asyncio.create_subprocess_exec(
            program,
            *(f"--{name}={value}" for name, value in arguments.items()),
            cwd=self._directory,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        async with asyncio.timeout(START_SECONDS):
            while not (self._directory / _SOCKET).exists():
                if self._process.returncode is not None:
                    raise RuntimeError(f"etcd ended with code {self._process.returncode} while starting")
                await asyncio.sleep(0.02)

    async def keep_running(self) -> None:
        """Start it again whenever it dies; until cancelled."""
        while True:
            assert self._process is not None
            code = await self._process.wait()
            log.warning("etcd died, starting it again", code=code)
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self.start()
            except (RuntimeError, TimeoutError, OSError) as error:
                log.error("etcd does not start", error=str(error))

    async def stop(self) -> None:
        """End it gracefully."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """In the child, before etcd runs: ask the kernel to kill it with us, and keep terminal signals for the parent."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
