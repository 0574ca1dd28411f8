"""Who harms the servers that may lead: kills, ends, stops them for a while; and sometimes etcd below all of them."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from tests.api.chaos.world import Change, World, key_of
from tests.api.server.process import ServerProcess
from tests.support.etcd import PrivateEtcd

LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 4, 3, 0.5
ELECTION = (
    f"--leader-elect-lease-duration={LEASE_SECONDS}s",
    f"--leader-elect-renew-deadline={RENEW_SECONDS}s",
    f"--leader-elect-retry-period={int(RETRY_SECONDS * 1000)}ms",
)
PAUSE_SECONDS = (0.5, 3.0)
"""Between two faults, at least."""
PODS, FIRST_PODS = 25, 30
IDLE_SECONDS = 15.0
"""The next fault comes when up to so many pods were made since the last one, or none is to be made: on a slow machine,
too, leaders are to get something done before they die."""
STEP_SECONDS = 0.2
START_SECONDS = 180.0
LEASE = "kube-system/orca-controllers"


class Faults:
    """Harms one server after the other, mostly the one that leads; several may be in trouble at once."""

    def __init__(self, servers: list[ServerProcess], etcd: PrivateEtcd, world: World, chance: random.Random) -> None:
        self._servers = servers
        self._etcd = etcd
        self._chance = chance
        self._busy: dict[ServerProcess, asyncio.Task[None]] = {}
        self._doing: dict[Callable[[ServerProcess], Coroutine[Any, Any, None]], int] = {
            self._kill: 4,
            self._kill_for_long: 2,
            self._end: 3,
            self._stop: 3,
            self._stop_for_long: 4,
        }
        self._pods = 0
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        """Servers that did not end when they were told to, or did not start."""
        self.leaders: list[str] = []
        """Holders of the lease, one after the other."""
        world.heard.append(self._heard)

    async def stop_in_the_middle(self) -> None:
        """Stops the leader while it makes the first pods, until another one has made the rest."""
        while not (self._pods > FIRST_PODS and any(map(self._leads, self._servers))):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self.done["stop in the middle"] += 1
        await self._stopped(next(filter(self._leads, self._servers)), 2 * LEASE_SECONDS)

    async def _let_them_work(self) -> None:
        await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
        wanted, left = self._pods + self._chance.randint(0, PODS), IDLE_SECONDS
        while self._pods < wanted and left > 0:
            await asyncio.sleep(STEP_SECONDS)
            left -= STEP_SECONDS

    def _heard(self, change: Change) -> None:
        if change.kind == "pods" and change.before is None:
            self._pods += 1
        if change.kind != "leases" or change.after is None or key_of(change.after) != LEASE:
            return
        holder = change.after["spec"].get("holderIdentity")
        if holder and (not self.leaders or self.leaders[-1] != holder):
            self.leaders.append(holder)

    async def run(self) -> None:
        """Until cancelled; then all servers are there again."""
        try:
            while True:
                await self._let_them_work()
                if self._chance.random() < 0.08:
                    await self._etcd_fails()
                    continue
                free = [one for one in self._servers if one not in self._busy]
                if not free:
                    continue
                leading = [one for one in free if self._leads(one)]
                server = leading[0] if leading and self._chance.random() < 0.8 else self._chance.choice(free)
                what = self._chance.choices(list(self._doing), list(self._doing.values()))[0]
                self.done[what.__name__.strip("_").replace("_", " ")] += 1
                task = self._busy[server] = asyncio.create_task(what(server))
                task.add_done_callback(partial(self._is_free, server))
        finally:
            while self._busy:
                await asyncio.wait(set(self._busy.values()))

    def _is_free(self, server: ServerProcess, task: asyncio.Task[None]) -> None:
        self._busy.pop(server, None)
        if not task.cancelled() and task.exception() is not None:
            self.problems.append(f"{server.directory.name}: {task.exception()!r}")

    def _leads(self, server: ServerProcess) -> bool:
        identity = server.directory / "data" / "identity"
        return bool(self.leaders) and identity.exists() and identity.read_text().strip() == self.leaders[-1]

    async def _kill(self, server: ServerProcess) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start, START_SECONDS)

    async def _kill_for_long(self, server: ServerProcess) -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self._chance.uniform(LEASE_SECONDS, 2 * LEASE_SECONDS))
        await asyncio.to_thread(server.start, START_SECONDS)

    async def _end(self, server: ServerProcess) -> None:
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(self._chance.uniform(0, 2))
        await asyncio.to_thread(server.start, START_SECONDS)

    async def _stop(self, server: ServerProcess) -> None:
        await self._stopped(server, self._chance.uniform(0.2, LEASE_SECONDS - 1))

    async def _stop_for_long(self, server: ServerProcess) -> None:
        await self._stopped(server, self._chance.uniform(LEASE_SECONDS + 1, 2 * LEASE_SECONDS))

    async def _stopped(self, server: ServerProcess, seconds: float) -> None:
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            server.process.send_signal(signal.SIGCONT)

    async def _etcd_fails(self) -> None:
        if self._chance.random() < 0.5:
            self.done["kill etcd"] += 1
            self._etcd.kill()
            try:
                await asyncio.sleep(self._chance.uniform(0.1, 1))
            finally:  # also when the time for faults is over just now
                await self._etcd.start()
        else:
            self.done["stop etcd"] += 1
            self._etcd.freeze()
            try:
                await asyncio.sleep(self._chance.uniform(0.5, 2.5))
            finally:
                self._etcd.thaw()
