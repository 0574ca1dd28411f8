"""A private Docker Engine for a test run: own network and mount namespaces, own data root, gone without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

BASE = Path("/var/tmp/orca-test-engine")


class PrivateEngine:
    """``dockerd`` in a network namespace of its own; the socket is reachable from everywhere at ``.socket``."""

    def __init__(self, name: str, base: Path = BASE) -> None:
        self.name = name
        self.netns = f"orca-t-{name}"
        self.directory = base / name
        self.socket = self.directory / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the namespace (loopback up) and the directories."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not Path(f"/run/netns/{self.netns}").exists():
            subprocess.run(["ip", "netns", "add", self.netns], check=True)
            subprocess.run(["ip", "-n", self.netns, "link", "set", "lo", "up"], check=True)

    def start(self, *extra: str) -> None:
        """Start the engine and wait until it answers; raises ``TimeoutError`` with the log's end when it does not."""
        self.prepare()
        directory = self.directory
        # /run is a directory of ours, so that it survives an engine restart: live restore needs containerd's state.
        script = (
            f"set -e; mount --make-rprivate /; mkdir -p {directory}/run; mount --bind {directory}/run /run; "
            f"exec dockerd --bridge=none --iptables=false --live-restore --data-root {directory}/data "
            f"--exec-root /run/docker --pidfile {directory}/docker.pid -H unix://{self.socket} {' '.join(extra)}"
        )
        log = (directory / "log").open("ab")
        self._process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", "unshare", "-m", "/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 30
        while not self.answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError((directory / "log").read_text()[-2000:])
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b"200 OK" in connection.recv(200)
        except OSError:
            return False

    def docker(self, *argv: str, text: bytes | None = None) -> str:
        """Run the docker command line against this engine."""
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *argv], input=text, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        return done.stdout.decode()

    def kill(self) -> None:
        """SIGKILL the engine; its containers stay."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Remove every container, then the engine, its files and its namespace."""
        if self.answers():
            ids = self.docker("ps", "-aq").split()
            if ids:
                self.docker("rm", "-f", *ids)
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.netns], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)
