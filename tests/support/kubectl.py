"""Drives real kubectl binaries, as a person would, and waits for what they show."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE

OLD_KUBECTL_CACHE = Path("/var/cache/orca/kubectl-1.20.2")
COMMAND_SECONDS = PATIENCE + 60
"""For one command: more than it is told to wait itself."""


@dataclass(frozen=True)
class Result:
    """What a command did: exit code and both outputs."""

    code: int
    out: str
    err: str


class Kubectl:
    """One kubectl binary with one kubeconfig. Calling it runs a command and fails the test when that fails."""

    def __init__(self, binary: str, kubeconfig: Path | str, namespace: str = "default") -> None:
        self.binary, self.kubeconfig, self.namespace = binary, str(kubeconfig), namespace

    @property
    def argv(self) -> list[str]:
        return [self.binary, f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]

    def within(self, namespace: str) -> Kubectl:
        """The same kubectl in another namespace."""
        return Kubectl(self.binary, self.kubeconfig, namespace)

    def try_(
        self, *argv: str, stdin: str | bytes | None = None, timeout: float = COMMAND_SECONDS, env: dict | None = None
    ) -> Result:
        """Run a command and return what it did, whatever its exit code."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*self.argv, *argv],
            input=data,
            capture_output=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
        )
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def __call__(
        self, *argv: str, stdin: str | bytes | None = None, timeout: float = COMMAND_SECONDS, env: dict | None = None
    ) -> str:
        done = self.try_(*argv, stdin=stdin, timeout=timeout, env=env)
        assert done.code == 0, f"kubectl {' '.join(argv)} → {done.code}\n{done.out}\n{done.err}"
        return done.out

    def json(self, *argv: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self(*argv, "-o", "json"))

    def items(self, *argv: str) -> list[dict[str, Any]]:
        """The items of a ``get``."""
        return self.json("get", *argv)["items"]

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command that goes on (a watch, a port-forward); the caller ends it."""
        return subprocess.Popen(
            [*self.argv, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def on_terminal(self, *argv: str, typed: str, until: str, timeout: float = PATIENCE) -> tuple[int, str]:
        """Run a command on a pseudo-terminal, type a text once it prints something, and read until it ends."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [*self.argv, *argv], stdin=follower, stdout=follower, stderr=follower, start_new_session=True
        )
        os.close(follower)
        seen, sent, deadline = b"", False, time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                ready, _, _ = select.select([leader], [], [], 0.2)
                if ready:
                    try:
                        chunk = os.read(leader, 65536)
                    except OSError:
                        break
                    if not chunk:
                        break
                    seen += chunk
                if not sent and until.encode() in seen:
                    os.write(leader, typed.encode())
                    sent = True
            return process.wait(timeout=PATIENCE), seen.decode(errors="replace")
        finally:
            if process.poll() is None:
                process.kill()
            os.close(leader)


def eventually(check: Callable[[], Any], *, seconds: float = PATIENCE, every: float = 0.2, what: str = "") -> Any:
    """Call ``check`` until it returns something true; fails with the last problem.

    What it looks for may not be there yet, nor what that is part of: ``AssertionError``, ``LookupError`` and
    ``ValueError`` (one of none) are waited out, too.
    """
    deadline = time.monotonic() + seconds
    problem: object = None
    while True:
        try:
            value = check()
            if value:
                return value
            problem = value
        except (AssertionError, LookupError, ValueError) as error:
            problem = error if isinstance(error, AssertionError) else repr(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or check} not so within {seconds} s; last: {problem}")
        time.sleep(every)


def current() -> str:
    """The kubectl on the path."""
    found = shutil.which("kubectl")
    assert found, "scripts/prepare dev installs a kubectl"
    return found


def debian() -> str:
    """Debian's kubectl 1.20.2, unpacked beside whatever kubectl is installed."""
    binary = OLD_KUBECTL_CACHE / "usr/bin/kubectl"
    if not binary.exists():
        asked = ["apt-cache", "policy", "kubernetes-client"]
        if "1.20.2" not in subprocess.run(asked, capture_output=True, text=True, check=False).stdout:
            pytest.skip("this system's apt has no kubectl 1.20.2; Debian 12's has")
        OLD_KUBECTL_CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "kubernetes-client"],
            cwd=OLD_KUBECTL_CACHE,
            check=True,
        )
        package = next(OLD_KUBECTL_CACHE.glob("kubernetes-client_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(OLD_KUBECTL_CACHE)], check=True)
    return str(binary)
