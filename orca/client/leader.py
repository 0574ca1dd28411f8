"""One leader among several processes, by a Lease (as client-go's leaderelection, so both can share a lease).

Safety rests on time measured locally: a candidate takes over only after it has *seen* the lease unchanged for the
holder's whole duration on its own monotonic clock, and a leader that could not renew for `renew_deadline` seconds steps
down before anyone else may take over. Clocks of different hosts are never compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from orca.api.builtin import LEASES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj
from orca.api.times import format_micro
from orca.client.base import Client
from orca.client.clock import Clock, SystemClock

log = structlog.get_logger()


class LeaderElector:
    """Runs `on_started` as a task while `identity` holds the lease; cancels it and calls `on_stopped` on loss.

    Durations are seconds: the lease's, how long a leader may fail to renew, and the pause between tries.
    """

    def __init__(
        self,
        client: Client,
        lease: str,
        identity: str,
        on_started: Callable[[], Awaitable[None]],
        on_stopped: Callable[[], None] | None = None,
        *,
        namespace: str = "kube-system",
        clock: Clock | None = None,
        lease_duration: float = 15,
        renew_deadline: float = 10,
        retry: float = 2,
    ) -> None:
        self.identity = identity
        self._client = client
        self._lease = lease
        self._namespace = namespace
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._clock = clock or SystemClock()
        self._lease_duration = lease_duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._leading: asyncio.Task[None] | None = None
        self._observed: tuple[object, ...] = ()
        self._observed_at = 0.0

    def __repr__(self) -> str:
        return f"<LeaderElector {self.identity} {'leads' if self.is_leader else 'waits for'} {self._lease}>"

    @property
    def is_leader(self) -> bool:
        return self._leading is not None

    async def run(self) -> None:
        """Campaigns, leads, and campaigns again until cancelled; then gives the lease back. When the work itself ends
        with an exception, that exception is raised here after stepping down."""
        try:
            while True:
                while not await self._try():
                    await self._clock.sleep(self._retry)
                await self._lead()
        finally:
            await self._step_down()
            await self._release()

    async def _lead(self) -> None:
        log.info("became leader", lease=self._lease, identity=self.identity)
        work = asyncio.ensure_future(self._work())
        self._leading = work
        renewed = self._clock.monotonic()
        while not work.done():
            pause = asyncio.ensure_future(self._clock.sleep(self._retry))
            try:
                await asyncio.wait({pause, work}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
            if work.done():
                break
            asked = self._clock.monotonic()
            if await self._try(within=self._renew_deadline - (asked - renewed)):
                renewed = asked
            elif self._clock.monotonic() - renewed >= self._renew_deadline or self._held_by_other():
                log.warning("lost leadership", lease=self._lease, identity=self.identity)
                await self._step_down()
                return
        await self._step_down()
        work.result()

    async def _work(self) -> None:
        await self._on_started()

    async def _step_down(self) -> None:
        work, self._leading = self._leading, None
        if work is None:
            return
        work.cancel()
        await asyncio.wait({work})
        if self._on_stopped is not None:
            self._on_stopped()

    def _held_by_other(self) -> bool:
        return bool(self._observed) and self._observed[0] not in ("", self.identity)

    async def _try(self, within: float | None = None) -> bool:
        """One attempt to take or renew; False when another holds it or the server does not answer in time."""
        if within is None:
            within = self._renew_deadline
        attempt = asyncio.ensure_future(self._take())
        limit = asyncio.ensure_future(self._clock.sleep(max(within, 0.1)))
        try:
            await asyncio.wait({attempt, limit}, return_when=asyncio.FIRST_COMPLETED)
            return attempt.done() and attempt.result()
        except ApiError as error:
            log.debug("lease not taken", lease=self._lease, error=str(error))
            return False
        finally:
            limit.cancel()
            attempt.cancel()

    async def _take(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._lease, self._namespace)
        except ApiError as error:
            if not is_not_found(error):
                raise
            await self._client.create(LEASES, self._written(None), self._namespace)
            self._observed = (self.identity,)
            return True
        spec = lease.get("spec") or {}
        seen = (spec.get("holderIdentity") or "", spec.get("renewTime"), lease["metadata"].get("resourceVersion"))
        elapsed = self._clock.monotonic()
        if seen != self._observed:
            self._observed, self._observed_at = seen, elapsed
        duration = spec.get("leaseDurationSeconds") or self._lease_duration
        if self._held_by_other() and elapsed - self._observed_at < duration:
            return False
        updated = await self._client.update(LEASES, self._written(lease))
        self._observed = (self.identity, updated["spec"]["renewTime"], updated["metadata"].get("resourceVersion"))
        self._observed_at = elapsed
        return True

    def _written(self, lease: Obj | None, holder: str | None = None) -> Obj:
        stamp = format_micro(self._clock.now())
        holder = self.identity if holder is None else holder
        old = (lease or {}).get("spec") or {}
        spec = {**old, "holderIdentity": holder, "renewTime": stamp, "leaseDurationSeconds": int(self._lease_duration)}
        if lease is None:
            spec |= {"acquireTime": stamp, "leaseTransitions": 0}
            metadata: Obj = {"name": self._lease, "namespace": self._namespace}
        else:
            metadata = lease["metadata"]
            if old.get("holderIdentity") != holder:
                spec |= {"acquireTime": stamp, "leaseTransitions": int(old.get("leaseTransitions") or 0) + 1}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    async def _release(self) -> None:
        """Lets the next candidate start at once instead of waiting out the lease."""
        if not self._observed or self._observed[0] != self.identity:
            return
        try:
            async with asyncio.timeout(2):
                lease = await self._client.get(LEASES, self._lease, self._namespace)
                if lease["spec"].get("holderIdentity") == self.identity:
                    freed = self._written(lease, holder="")
                    freed["spec"]["leaseDurationSeconds"] = 1
                    await self._client.update(LEASES, freed)
        except (ApiError, TimeoutError) as error:
            log.debug("lease not released", lease=self._lease, error=str(error))
