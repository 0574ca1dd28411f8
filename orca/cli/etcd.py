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
"""After which it takes long."""
RESTART_SECONDS = (0.2, 5.0)
"""Before one that died is started again: the first time, and at most."""
STEADY_SECONDS = 10.0
"""One that lived so long did not die of what killed the one before: a full disk ends each as soon as it writes."""
STOP_SECONDS = 5.0


class EtcdMissing(Exception):
    """No etcd program on this machine."""


class EtcdEnded(Exception):
    """It ended while it started; the message says where to look."""


def pause_before(lived: float, last: float) -> float:
    """Seconds until one that lived so long is started again; ``last`` is the pause before it, 0 when there was none."""
    first, most = RESTART_SECONDS
    return first if lived >= STEADY_SECONDS or not last else min(2 * last, most)


class EtcdChild:
    """One etcd below ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._began = 0.0
        self._pause = 0.0
        self._died: int | None = None

    @property
    def age(self) -> float:
        """For how many seconds the one that runs now has done so; 0 when none does."""
        running = self._process is not None and self._process.returncode is None
        return asyncio.get_running_loop().time() - self._began if running else 0.0

    @property
    def trouble(self) -> str:
        """What is wrong with it, as far as that is known here."""
        if self._died is None or self.age >= STEADY_SECONDS:
            return ""
        return f"etcd ends again and again (code {self._died}); its own words are above, its data in {self._directory}"

    @property
    def endpoint(self) -> str:
        """For the store."""
        return f"unix:{self._directory.absolute() / _SOCKET}"

    async def start(self) -> None:
        """Start it and wait for its socket, as long as it lives. Raises EtcdMissing, EtcdEnded."""
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
        self._began = asyncio.get_running_loop().time()
        late = START_SECONDS
        while not (self._directory / _SOCKET).exists():
            if self._process.returncode is not None:
                raise EtcdEnded(
                    f"etcd ended with code {self._process.returncode} while it started; its own words are above, its "
                    f"data in {self._directory}"
                )
            if self.age > late:
                late *= 2
                log.warning("etcd takes long to start", seconds=round(self.age))
            await asyncio.sleep(0.02)

    async def keep_running(self) -> None:
        """Start it again whenever it dies; until cancelled."""
        while True:
            assert self._process is not None
            self._died = await self._process.wait()
            self._pause = pause_before(asyncio.get_running_loop().time() - self._began, self._pause)
            log.warning("etcd died, starting it again", code=self._died, seconds=self._pause)
            await asyncio.sleep(self._pause)
            try:
                await self.start()
            except (EtcdEnded, OSError) as error:
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
