"""A private registry beside a private engine, in its network namespace: Debian's ``docker-registry``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.support import slow
from tests.support.engine import PrivateEngine
from tests.support.patience import PATIENCE
from tests.support.tls import Authority

ADDRESS = "192.0.2.50"
"""Not of loopback: to addresses there the engine speaks plain http by itself."""
USERS = "ann:$2y$05$qC39HH1SaSH1TNb7n5cgd.YavIx/g9hDTrDxJNfpP/LKw6QyUu.RG\n"
"""One user, whose password is ``p``; as htpasswd makes it, with bcrypt."""


class Registry:
    """``start`` and ``stop`` as often as wanted; what was pushed stays in ``storage``.

    With an authority it speaks TLS, with its certificate, and asks for user and password; without one, plain http and
    for nothing.
    """

    def __init__(
        self, engine: PrivateEngine, directory: Path, storage: Path, port: int, authority: Authority | None = None
    ) -> None:
        self.name = f"{ADDRESS}:{port}"
        self._netns = engine.netns
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / f"registry-{port}.log"
        http: dict[str, object] = {"addr": self.name, "secret": "of the test"}
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(storage)}},
            "http": http,
        }
        if authority is not None:
            pair = authority.files(f"registry-{port}", ADDRESS)
            http["tls"] = {"certificate": str(pair.cert), "key": str(pair.key)}
            users = directory / "users"
            users.write_text(USERS)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        self._config = directory / f"registry-{port}.yml"
        self._config.write_text(yaml.safe_dump(config))

    def start(self) -> None:
        self._process = run_inside(
            self._netns, "docker-registry", "serve", str(self._config), log=self._log, address=self.name
        )

    def stop(self) -> None:
        end(self._process)
        self._process = None


def run_inside(netns: str, *argv: str, log: Path, address: str) -> subprocess.Popen[bytes]:
    """Start a server in a network namespace and wait until it listens; raises AssertionError with its log."""
    with log.open("ab") as output:
        inside = ["nsenter", f"--net=/run/netns/{netns}", *argv]
        process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + PATIENCE
    port = address.rpartition(":")[2]
    while True:
        listening = subprocess.run(
            ["nsenter", f"--net=/run/netns/{netns}", "ss", "-Hltn", f"sport = :{port}"], capture_output=True, check=True
        )
        if listening.stdout:
            return process
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)


def slowed(engine: PrivateEngine, directory: Path, port: int, target: int, rate: int) -> subprocess.Popen[bytes]:
    """The registry on port ``target`` seen through a narrow pipe on ``port``; or 503 for everything."""
    argv = [sys.executable, slow.__file__, ADDRESS, str(port), str(target), str(rate)]
    return run_inside(engine.netns, *argv, log=directory / f"slow-{port}.log", address=f"{ADDRESS}:{port}")


def end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.terminate()
        process.wait(PATIENCE)
