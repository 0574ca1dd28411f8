"""A real ``orca server`` for one test or module, gone with all its data afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.api.server.process import ServerProcess


@asynccontextmanager
async def running_server(*, controllers: bool = False) -> AsyncIterator[ServerProcess]:
    """May be killed and started again meanwhile."""
    flags = () if controllers else ("--no-controllers",)
    with tempfile.TemporaryDirectory(prefix="orca-server-", ignore_cleanup_errors=True) as directory:
        server = ServerProcess(Path(directory), *flags)
        try:
            await asyncio.to_thread(server.start)
            yield server
        finally:
            if server.process is not None:
                server.kill()
