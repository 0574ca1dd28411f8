"""Names that are not the cluster's: asked of nameservers in the order in which they are named, and remembered.

A nameserver that fails twice in a row is down: it is not asked any more, but looked after every half a second (later
less often) until it answers again, so only the first clients wait for it. With all of them down the answer is SERVFAIL
at once. One that asks us in turn would go round in circles: a question that nobody else can ask finds it out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import structlog

from agents.dns import wire
from agents.dns.exchange import Exchange, exchange
from agents.dns.memory import Key, Memory
from agents.dns.nameservers import Address
from agents.dns.received import Received, read
from agents.dns.reply import Reply
from agents.dns.tally import Tally
from agents.dns.wire import Query
from orca.client.clock import Clock

log = structlog.get_logger()

ROUNDS = (1.0, 2.0)
"""Seconds that a nameserver is given: the first time each, then once more."""
TRIES = 4
FAILURES = 2
"""So many in a row, and it is down."""
FIRST_LOOK, LAST_LOOK = 0.5, 5.0
IDLE_SECONDS = 60.0
"""Nobody asked for so long: a nameserver that is down is not looked after any more."""
_UNWILLING = (wire.SERVFAIL, wire.REFUSED, wire.NOTIMP, wire.FORMERR)


class NoAnswer(Exception):
    """No nameserver answers."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    down: bool = False
    looped: bool = False
    probed: bool = False


class Upstream:
    """`servers_of(name)`: whom to ask for a name, first the first. `close` when done."""

    def __init__(
        self,
        servers_of: Callable[[str], tuple[Address, ...]],
        clock: Clock,
        *,
        exchange: Exchange = exchange,
        tally: Tally | None = None,
        probe: bool = True,
    ) -> None:
        """``probe``: whether nameservers are asked a question that finds circles."""
        self._servers_of = servers_of
        self._clock = clock
        self._exchange = exchange
        self._tally = tally or Tally()
        self._probe = probe
        self.memory = Memory()
        self._health: dict[Address, _Health] = {}
        self._asking: dict[Key, asyncio.Future[Received]] = {}
        self._probes: dict[str, Address] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked_at = 0.0
        self._settings = 0
        """How often `forget` was called: answers that were asked for before are not remembered after."""

    def __repr__(self) -> str:
        down = [str(server) for server, health in self._health.items() if health.down or health.looped]
        return f"<Upstream {self.memory}, down: {', '.join(down) or 'none'}>"

    def remembered(self, query: Query) -> Reply | None:
        """The answer, when it need not be asked for."""
        reply = self.memory.get(query.key, self._clock.monotonic())
        if reply is None:
            self._tally.cache_misses += 1
        else:
            denied = reply.rcode == wire.NXDOMAIN or not (reply.loose or reply.fixed_count)
            self._tally.cache_hits["denial" if denied else "success"] += 1
        return reply

    async def ask(self, query: Query) -> Received:
        """The answer of a nameserver, or what is remembered of it. Several clients that ask the same at the same time
        wait for one answer. Raises NoAnswer.
        """
        known = self.memory.aged(query.key, self._clock.monotonic())
        if known is not None:
            return known
        running = self._asking.get(query.key)
        if running is None:
            running = asyncio.ensure_future(self._ask(query))
            self._asking[query.key] = running
            running.add_done_callback(lambda done: self._finished(query.key, done))
        return await asyncio.shield(running)

    def is_own(self, name: str) -> bool:
        """Whether a question that came in is one that this very object has asked: whoever got it asks us in turn."""
        server = self._probes.get(name)
        if server is None:
            return False
        health = self._health.get(server)
        if health is not None and not health.looped:
            health.looped = True
            log.error("a nameserver asks the cluster's DNS in turn; it is not asked any more", nameserver=str(server))
        return True

    def forget(self) -> None:
        """Settings have changed: what was learned by the former ones holds no longer."""
        self.memory.clear()
        self._health.clear()
        self._settings += 1

    async def close(self) -> None:
        tasks: list[asyncio.Future[Received] | asyncio.Task[None]] = [*self._tasks, *self._asking.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- asking ------------------------------------------------------------------------------------------------------

    def _finished(self, key: Key, done: asyncio.Future[Received]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _ask(self, query: Query) -> Received:
        self._asked_at = self._clock.monotonic()
        settings = self._settings
        unwilling: Received | None = None
        refused: set[Address] = set()
        servers = self._usable(query.name)
        tries = [(server, seconds) for seconds in ROUNDS for server in servers][:TRIES]
        for server, seconds in tries:
            if self._of(server).down or server in refused:
                continue
            try:
                received = await self._one(server, query, seconds)
            except (OSError, TimeoutError, ValueError) as error:
                self._failed(server, error)
                continue
            if received.rcode in _UNWILLING:
                refused.add(server)
                unwilling = unwilling or received
                continue
            if settings == self._settings:
                self.memory.put(query.key, received, self._clock.monotonic())
            return received
        if unwilling is not None:
            return unwilling
        raise NoAnswer(query.name)

    def _usable(self, name: str) -> list[Address]:
        servers = self._servers_of(name)
        for server in servers:
            health = self._of(server)
            if self._probe and not health.probed:
                health.probed = True
                self._start(self._look_for_circle(server))
        usable = [server for server in servers if not (self._of(server).down or self._of(server).looped)]
        if servers and not usable:
            self._tally.all_down += 1
        return usable

    async def _one(self, server: Address, query: Query, seconds: float) -> Received:
        began = self._clock.monotonic()
        message = await self._exchange(server, query, seconds)
        received = read(message, len(query.wire))
        health = self._of(server)
        health.failures = 0
        rcode = wire.RCODES[received.rcode] if received.rcode < len(wire.RCODES) else str(received.rcode)
        self._tally.upstream_seconds[str(server), rcode].add(self._clock.monotonic() - began)
        return received

    def _of(self, server: Address) -> _Health:
        health = self._health.get(server)
        if health is None:
            health = self._health[server] = _Health()
        return health

    # --- health ------------------------------------------------------------------------------------------------------

    def _failed(self, server: Address, error: Exception) -> None:
        health = self._of(server)
        health.failures += 1
        if health.failures >= FAILURES and not health.down:
            health.down = True
            why = str(error) or "no answer"
            log.warning("a nameserver does not answer", nameserver=str(server), error=why)
            self._start(self._look_after(server, health))

    async def _look_after(self, server: Address, health: _Health) -> None:
        """Until it answers again, or nobody wants to know."""
        pause = FIRST_LOOK
        roots = Query(0, "", wire.NS, b"\0\0\2\0\1")
        while self._health.get(server) is health:
            await self._clock.sleep(pause)
            if self._clock.monotonic() > self._asked_at + IDLE_SECONDS:
                break
            try:
                await self._exchange(server, roots, 1.0)
            except (OSError, TimeoutError):
                self._tally.upstream_down[str(server)] += 1
                pause = min(pause * 2, LAST_LOOK)
                continue
            log.info("a nameserver answers again", nameserver=str(server))
            break
        # The next failure tells at once when it was left alone.
        health.down, health.failures = False, FAILURES - 1

    async def _look_for_circle(self, server: Address) -> None:
        name = f"{int.from_bytes(os.urandom(7), 'big')}.{int.from_bytes(os.urandom(7), 'big')}"
        self._probes[name] = server
        try:
            await self._exchange(server, Query(0, name, wire.HINFO, wire.name_data(name) + b"\0\x0d\0\1"), ROUNDS[-1])
        except (OSError, TimeoutError):
            pass  # A question like any other will find out.
        finally:
            del self._probes[name]

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
