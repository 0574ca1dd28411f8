"""A private etcd on loopback for tests: free ports, its own temporary directory, killable and startable again."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from tests.support.patience import PATIENCE
from tests.support.ports import free_port


class PrivateEtcd:
    """One etcd process. `endpoint` stays the same across `kill` and `start`."""

    def __init__(
        self, directory: Path, name: str = "test", *, quota: int = 4 << 30, tls: dict[str, Path] | None = None
    ) -> None:
        self.name = name
        self._tls = tls or {}
        self._quota = quota
        self.members: list[PrivateEtcd] = [self]
        self._directory = directory
        self._client, self._peer = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._client}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self._peer}"

    def leads(self) -> bool:
        """Whether this member is its cluster's leader."""
        with urlopen(f"http://{self.endpoint}/metrics", timeout=5) as answer:
            return b"\netcd_server_is_leader 1" in answer.read()

    async def start(self) -> None:
        """Returns once it accepts connections."""
        client, peer = f"http{'s' if self._tls else ''}://{self.endpoint}", self.peer_url
        arguments = {
            "name": self.name,
            "data-dir": str(self._directory / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"{member.name}={member.peer_url}" for member in self.members),
            "quota-backend-bytes": str(self._quota),
            "log-level": "error",
            **{name: str(path) for name, path in self._tls.items()},
            **({"client-cert-auth": "true"} if self._tls else {}),
        }
        log = (self._directory / "log").open("ab")
        self._process = subprocess.Popen(  # noqa: ASYNC220 - starts at once, and ends with the test
            ["etcd", *(f"--{name}={value}" for name, value in arguments.items())], stdout=log, stderr=log
        )
        log.close()
        for _ in range(1200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._client)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise RuntimeError(f"etcd did not start: {(self._directory / 'log').read_text()[-2000:]}")

    def make_home(self) -> None:
        self._directory.mkdir(exist_ok=True)

    def kill(self) -> None:
        """As `kill -9`."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def save(self) -> None:
        """Keeps a copy of its data; while it does not run."""
        shutil.copytree(self._directory / "data", self._directory / "saved")

    def restore(self) -> None:
        """Puts the copy in place of its data; while it does not run."""
        shutil.rmtree(self._directory / "data")
        (self._directory / "saved").rename(self._directory / "data")

    def freeze(self) -> None:
        """Stands still, keeping its connections."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@asynccontextmanager
async def private_etcd(*, quota: int = 4 << 30) -> AsyncIterator[PrivateEtcd]:
    """A running etcd that takes ``quota`` bytes, gone with all its data afterwards."""
    with tempfile.TemporaryDirectory(prefix="orca-etcd-") as directory:
        etcd = PrivateEtcd(Path(directory), quota=quota)
        try:
            await etcd.start()
            yield etcd
        finally:
            etcd.thaw()
            etcd.kill()


@asynccontextmanager
async def etcd_cluster(size: int = 3, tls: list[dict[str, Path]] | None = None) -> AsyncIterator[list[PrivateEtcd]]:
    """Running members of one etcd, gone with all their data afterwards. `tls` are flags with files, one a member, for
    an etcd that asks for client certificates."""
    with tempfile.TemporaryDirectory(prefix="orca-etcd-") as directory:
        members = [
            PrivateEtcd(Path(directory, f"m{number}"), f"m{number}", tls=tls[number] if tls else None)
            for number in range(size)
        ]
        try:
            for member in members:
                member.members = members
                member.make_home()
            await asyncio.gather(*(member.start() for member in members))
            yield members
        finally:
            for member in members:
                member.kill()


async def leader(members: list[PrivateEtcd]) -> PrivateEtcd:
    """The one that leads, once one does: on a busy machine they change by themselves."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for member in members:
                with suppress(OSError):
                    if await asyncio.to_thread(member.leads):
                        return member
            await asyncio.sleep(0.1)
