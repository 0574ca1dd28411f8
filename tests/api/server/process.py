"""A real ``orca server`` as a process, with an etcd of its own, on a free port of loopback."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from tests.support.patience import PATIENCE
from tests.support.ports import free_port


class ServerProcess:
    """``start`` returns when it is ready; data survives ``kill`` and ``stop``."""

    def __init__(self, directory: Path, *flags: str, port: int = 0, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self.port = port or free_port()
        self.kubeconfig = directory / "kubeconfig"
        self.log = directory / "log"
        self._flags = flags
        self._host = host
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        return [
            str(Path(sys.executable).parent / "orca"),
            "server",
            f"--data-dir={self.directory / 'data'}",
            f"--secure-port={self.port}",
            f"--bind-address={self._host}",
            f"--advertise-address={self._host}",
            f"--kubeconfig={self.kubeconfig}",
            *self._flags,
        ]

    def start(self, seconds: float = PATIENCE) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + seconds
        try:
            while not self._ready():
                assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()[-3000:]}"
                assert time.monotonic() < deadline, f"the server is not ready:\n{self.log.read_text()[-3000:]}"
                time.sleep(0.05)
        except BaseException:  # also when the test is broken off: nobody would stop what never was ready
            self.kill()
            raise

    def _ready(self) -> bool:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        try:
            with urlopen(f"https://{self._host}:{self.port}/readyz", context=trusting, timeout=2) as answer:
                return bool(answer.read() == b"ok" and self.kubeconfig.exists())
        except OSError:
            return False

    def etcd_pid(self) -> int:
        """Of the child that stores."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "etcd\n")

    def memory(self) -> int:
        """Resident bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.ended()

    def ended(self) -> int:
        """The exit code, once there is one, of a server that was told to end."""
        assert self.process is not None
        code = self.process.wait(timeout=PATIENCE)
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None
