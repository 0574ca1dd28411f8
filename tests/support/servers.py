"""Several real ``orca server`` processes on one etcd, with the same keys, on loopback."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.api.server.process import ServerProcess

KEYS = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub")


def give_keys(source: Path, target: Path) -> None:
    """What the operator copies by hand: the cluster's keys from one server's directory to another's."""
    (target / "data" / "pki").mkdir(parents=True, exist_ok=True)
    for name in KEYS:
        shutil.copy2(source / "data" / "pki" / name, target / "data" / "pki" / name)


@asynccontextmanager
async def servers_on(etcd: str, count: int, *flags: str) -> AsyncIterator[list[ServerProcess]]:
    """`count` servers on the etcd at `etcd` ("host:port,…"); killed afterwards."""
    with tempfile.TemporaryDirectory(prefix="orca-servers-", ignore_cleanup_errors=True) as directory:
        made: list[ServerProcess] = []
        try:
            for number in range(count):
                home = Path(directory, f"server-{number}")
                home.mkdir()  # noqa: ASYNC240
                if made:
                    give_keys(made[0].directory, home)
                made.append(ServerProcess(home, f"--etcd-servers={etcd}", *flags))
                await asyncio.to_thread(made[-1].start)
            yield made
        finally:
            for server in made:
                if server.process is not None:
                    server.kill()
