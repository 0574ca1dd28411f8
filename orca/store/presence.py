"""Keys that vanish with the process that holds them: how servers on one etcd know of each other."""

from __future__ import annotations

import asyncio

import structlog

from orca.client.clock import Clock
from orca.store.etcd import Etcd
from orca.store.outcomes import EtcdError, Write
from orca.store.seldom import Seldom

log = structlog.get_logger()

RETRY_SECONDS = 1.0
RELEASE_SECONDS = 2.0


class Presence:
    """Keeps `key` with `value` in etcd while `run` runs; it vanishes `ttl` seconds after the last sign of life."""

    def __init__(self, etcd: Etcd, clock: Clock, key: bytes, value: bytes, ttl: int) -> None:
        self._etcd = etcd
        self._clock = clock
        self._key = key
        self._value = value
        self._ttl = ttl
        self._lease = 0
        self._shown = False  # whether the key is known to be there under that lease
        self._trouble = Seldom(clock.monotonic)

    def __repr__(self) -> str:
        return f"<Presence {self._key.decode()}>"

    async def run(self) -> None:
        """Until cancelled; then the key goes at once."""
        try:
            while True:
                try:
                    await self._show()
                    pause = self._ttl / 3
                except EtcdError as error:
                    if self._trouble.due():
                        log.warning("could not show that this server lives", error=str(error))
                    pause = RETRY_SECONDS
                await self._clock.sleep(pause)
        finally:
            await self._release()

    async def _show(self) -> None:
        if not self._lease or not await self._etcd.keep_alive(self._lease):
            self._shown = False
            self._lease = await self._etcd.grant(self._ttl)
        if not self._shown:
            await self._etcd.transact([Write(self._key, self._value, None, self._lease)])
            self._shown = True

    async def _release(self) -> None:
        if not self._lease:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._etcd.revoke(self._lease)
        except (EtcdError, TimeoutError) as error:
            log.debug("lease not revoked, it will end by itself", error=str(error))
