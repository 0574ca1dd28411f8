"""A port of the proxy's own that is served as long as the agent runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from orca.client.clock import Clock

log = structlog.get_logger()

RETRY_SECONDS = 60.0

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def serve(what: str, answer: Answer, host: str | None, port: int, clock: Clock) -> None:
    """Until cancelled. A port that is taken is tried again: another agent of this machine, or a kube-proxy."""
    told = False
    while True:
        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            await asyncio.Event().wait()
        except OSError as error:
            if not told:
                log.warning("a port of the proxy is not served", what=what, port=port, error=error.strerror)
            told = True
        finally:
            await runner.cleanup()
        await clock.sleep(RETRY_SECONDS)
