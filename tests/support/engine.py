"""A private Docker Engine for a test run: own network and mount namespaces, own data root, gone without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from agents.runtime.translate import descendants
from tests.support.patience import PATIENCE

BASE = Path("/var/tmp/orca-test-engine")


SECOND_RUNTIME = "second"
"""A name of the default runtime's own, by which pods can ask for it."""


class PrivateEngine:
    """``dockerd`` in a network namespace of its own; the socket is reachable from everywhere at ``.socket``."""

    def __init__(self, name: str, base: Path = BASE) -> None:
        self.name = name
        self.netns = f"orca-t-{name}"
        self.directory = base / name
        self.socket = self.directory / "docker.sock"
        self._holder: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the network namespace (loopback up), the directories, and a process that keeps the mount namespace: an
        engine that is started again must find its mounts, and containers' shims, which outlive it, see the new ones."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not Path(f"/run/netns/{self.netns}").exists():
            subprocess.run(["ip", "netns", "add", self.netns], check=True)
            subprocess.run(["ip", "-n", self.netns, "link", "set", "lo", "up"], check=True)
        if self._holder is not None:
            return
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        script = "set -e; mount --make-rprivate /; mount -t tmpfs -o mode=755 tmpfs /run; "
        script += f"touch {ready}; exec sleep infinity"
        command = ["nsenter", f"--net=/run/netns/{self.netns}", "unshare", "-m", "/bin/sh", "-c", script]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        _wait(ready.exists)

    def start(self, *extra: str) -> None:
        """Start the engine and wait until it answers; raises ``TimeoutError`` with the log's end when it does not, and
        leaves nothing behind then."""
        self.prepare()
        assert self._holder is not None
        inside = ["nsenter", "--target", str(self._holder.pid), "--mount", "--net"]
        # containerd dies with its engine; while it is a zombie its pid file makes the next engine wait for it in vain.
        subprocess.run([*inside, "rm", "-f", "/run/docker/containerd/containerd.pid", "/run/docker.pid"], check=True)
        options = ["--bridge=none", "--iptables=false", "--live-restore", f"--data-root={self.directory / 'data'}"]
        options += [f"--add-runtime={SECOND_RUNTIME}=runc"]
        options += ["--exec-root=/run/docker", "--pidfile=/run/docker.pid", f"--host=unix://{self.socket}", *extra]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*inside, "dockerd", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                said = (self.directory / "log").read_text()[-2000:]
                self.stop()
                raise TimeoutError(said)
            time.sleep(0.05)

    def trust(self, *addresses: str, ca: bytes) -> None:
        """Make registries at these addresses trusted by this authority, as a user would on his host; call it before
        :meth:`start` or after. Nothing of the machine's own /etc is touched."""
        self.prepare()
        assert self._holder is not None
        script = "mkdir -p /etc/docker; mountpoint -q /etc/docker || mount -t tmpfs tmpfs /etc/docker; "
        script += "".join(
            f"mkdir -p /etc/docker/certs.d/{address}; cp /dev/stdin /etc/docker/certs.d/{address}/ca.crt; "
            for address in addresses[:1]
        )
        script += "".join(
            f"cp -r /etc/docker/certs.d/{addresses[0]} /etc/docker/certs.d/{address}; " for address in addresses[1:]
        )
        inside = ["nsenter", "--target", str(self._holder.pid), "--mount", "sh", "-ec", script]
        subprocess.run(inside, input=ca, check=True)

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
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """End the engine in order: it stops its containers, unless they are to outlive it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    def power_off(self) -> None:
        """End the engine, its containerd and every container at once, as a host that loses power does; data stay."""
        if self._holder is None:
            return
        self.kill()
        space = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        family = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _mount_space(entry) == space]
        pids = {child for pid in family for child in descendants(pid)}
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._holder.wait()
        self._holder = None

    def stop(self) -> None:
        """Remove every container, then the engine, its files and its namespace."""
        if self.answers():
            ids = self.docker("ps", "-aq").split()
            if ids:
                self.docker("rm", "-f", *ids)
            assert self._process is not None
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.power_off()
        subprocess.run(["ip", "netns", "del", self.netns], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def _wait(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the engine's namespaces were not made")
        time.sleep(0.01)


def _mount_space(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
