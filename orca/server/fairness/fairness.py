"""The gate every request passes: classified once per kind of request, let in at once when there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from orca.api.errors import ApiError, too_many_requests
from orca.api.objects import Obj
from orca.auth.identity import UserInfo
from orca.server.fairness.classify import Asked, Flow, Schema, Stats, in_order
from orca.server.fairness.defaults import CATCH_ALL, EXEMPT, MANDATORY
from orca.server.fairness.levels import Level, Waiting, borrow
from orca.server.fairness.turns import Lane, Turns
from orca.server.paths import Target

QUEUE_SECONDS = 15.0
"""A quarter of the default request timeout, as upstream: who waited so long would not be answered in time."""
OBJECTS_PER_SEAT = 100.0
MOST_SEATS = 10
BORROW_SECONDS = 10.0
_REMEMBERED = 16_384
_LONGEST = 1024
"""Characters of what is remembered: anybody can make up longer paths, and namespaces in them."""
_KEPT_STATS = 4_096
REFUSAL = "Too many requests, please try again later."


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessConfig:
    """``reading`` and ``writing`` are --max-requests-inflight and --max-mutating-requests-inflight."""

    enabled: bool = True
    reading: int = 400
    writing: int = 200
    queue_seconds: float = QUEUE_SECONDS


class Fairness:
    """One per server. ``enter`` and ``leave`` (or ``wait`` and ``leave``) surround every request."""

    def __init__(self, config: FairnessConfig) -> None:
        self.config = config
        self.levels: dict[str, Level] = {}
        self.turns = Turns(others=self._others)
        self.schemas: list[Schema] = []
        self.stats: dict[tuple[str, str], Stats] = {}
        self.fair_fraction = 0.0
        """The multiple of their targets that levels got when seats were last shared out."""
        self._flows: dict[tuple[object, ...], Flow] = {}
        self._by_hash: dict[tuple[str, str], Flow] = {}
        self.configure((), ())

    @property
    def total(self) -> int:
        """The server's seats."""
        return self.config.reading + self.config.writing

    # --- configuration -----------------------------------------------------------------------------------------------

    def configure(self, schemas: Sequence[Obj], levels: Sequence[Obj]) -> None:
        """Take over what is stored. The mandatory ones are there even when they are not stored; schemas whose level
        does not exist match nothing."""
        wanted = {obj["metadata"]["name"]: obj for obj in levels}
        flows = {obj["metadata"]["name"]: obj for obj in schemas}
        for resource, obj in MANDATORY:
            place = wanted if resource.kind == "PriorityLevelConfiguration" else flows
            name = obj["metadata"]["name"]
            held = place.get(name) or obj
            # What somebody has made of them counts only once it is as it must be again.
            place[name] = {**held, "spec": {**obj["spec"], **_tunable(held, obj)}}
        now = perf_counter()
        shares = sum(_shares(obj) for obj in wanted.values())
        fresh: dict[str, Level] = {}
        for name, obj in wanted.items():
            level = fresh[name] = self.levels.get(name) or Level(name)
            if name in self.levels:
                level.account(now)
            else:
                level.demand.begin(now)
            level.configure(obj)
            level.allot(self.total, shares)
            if level.waiting:
                level.dispatch(now)
        self.levels = fresh
        self.schemas = [schema for schema in in_order(list(flows.values())) if schema.level_name in fresh]
        self._flows.clear()
        self._by_hash.clear()

    async def keep_borrowing(self) -> None:
        """Moves limits between levels every ten seconds; until cancelled."""
        while True:
            await asyncio.sleep(BORROW_SECONDS)
            self.fair_fraction = borrow(list(self.levels.values()), self.total, perf_counter())

    # --- classification ----------------------------------------------------------------------------------------------

    def classify(self, user: UserInfo, verb: str, target: Target) -> Flow:
        """The flow of a request; remembered, so that this costs one look-up."""
        if target.plural:
            key: tuple[object, ...] = (
                user.name,
                user.groups,
                verb,
                target.plural,
                target.namespace,
                target.group,
                target.subresource,
            )
        else:
            key = (user.name, user.groups, verb, target.path)
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= _REMEMBERED:
                self._flows.clear()
                self._by_hash.clear()
            flow = self._find(user, verb, target)
            if len(target.path) <= _LONGEST:
                self._flows[key] = flow
        return flow

    def _find(self, user: UserInfo, verb: str, target: Target) -> Flow:
        if target.plural:
            resource = f"{target.plural}/{target.subresource}" if target.subresource else target.plural
            asked = Asked(verb, target.group, resource, target.namespace)
        else:
            asked = Asked(verb.lower(), path=target.path.rstrip("/") or "/")
        schema = next((one for one in self.schemas if one.matches(user, asked)), None)
        if schema is None:  # neither authenticated nor unauthenticated: nobody the catch-all knows
            schema = next(one for one in self.schemas if one.name == CATCH_ALL)
        level = self.levels[schema.level_name]
        distinguisher = schema.distinguisher(user, asked)
        flow = self._by_hash.get((schema.name, distinguisher))
        if flow is None:
            flow = Flow(schema, level, distinguisher, self._stats(schema.name, level.name))
            if len(distinguisher) <= _LONGEST:
                self._by_hash[schema.name, distinguisher] = flow
        return flow

    def _stats(self, schema: str, level: str) -> Stats:
        found = self.stats.get((schema, level))
        if found is None:
            if len(self.stats) >= _KEPT_STATS:
                self.stats.clear()
            found = self.stats[schema, level] = Stats(schema, level)
        return found

    # --- requests ----------------------------------------------------------------------------------------------------

    def enter(self, flow: Flow, seats: int, now: float) -> bool:
        """Begin at once; False when ``wait`` has to be called instead. ``now`` in ``perf_counter`` seconds."""
        stats = flow.stats
        if seats > 1:
            stats.wide[seats] += 1
        if self.turns.has_room(now) and flow.level.enter(seats, now):
            stats.dispatched += 1
            if seats > 1:
                stats.beside += seats - 1
            return True
        return False

    async def wait(self, flow: Flow, seats: int) -> Waiting | None:
        """Begin when there is room; what comes back goes to ``leave``. Raises ApiError 429."""
        level, stats = flow.level, flow.stats
        waiting: Waiting | None = None
        arrived = perf_counter()
        if not level.enter(seats, arrived):
            waiting = await self._queue(flow, seats, arrived)
        if not self.turns.has_room(perf_counter()):
            stats.turning += 1
            try:
                await self.turns.wait(_lane(flow))
            except BaseException:
                level.leave(seats, perf_counter(), waiting.queue if waiting is not None else None)
                stats.reject("cancelled")
                raise
            finally:
                stats.turning -= 1
        stats.dispatched += 1
        stats.beside += seats - 1
        stats.waited.add(perf_counter() - arrived)
        return waiting

    def lane(self, flow: Flow) -> Lane:
        """Where requests of this flow wait while they are under way."""
        return self.turns.lane(_lane(flow))

    def _others(self, lane: object) -> bool:
        """Whether requests of other levels than this lane's are under way."""
        return any(
            level.running and level is not lane and not (level.exempt and isinstance(lane, str))
            for level in self.levels.values()
        )

    async def _queue(self, flow: Flow, seats: int, arrived: float) -> Waiting:
        level, stats = flow.level, flow.stats
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if not granted.done():
                granted.set_result(None)

        waiting = Waiting(seats, arrived, grant, flow)
        if not level.enqueue(waiting, flow.hand, arrived):
            reason = "queue-full" if flow.hand else "concurrency-limit"
            raise self._refused(flow, reason, 0.0)
        if granted.done():
            return waiting
        stats.queued += 1
        stats.queued_seats += seats
        if waiting.queue is not None:
            stats.lengths[len(waiting.queue.waiting)] += 1
        try:
            async with asyncio.timeout(self.config.queue_seconds):
                await granted
        except TimeoutError:
            self._unqueue(level, waiting)
            raise self._refused(flow, "time-out", perf_counter() - arrived) from None
        except asyncio.CancelledError:
            self._unqueue(level, waiting)
            stats.reject("cancelled")
            raise
        finally:
            stats.queued -= 1
            stats.queued_seats -= seats
            stats.passed_over += waiting.passed_over
        return waiting

    @staticmethod
    def _unqueue(level: Level, waiting: Waiting) -> None:
        """Nobody is there any more to use what was, or would have been, granted; it may have been between the moment
        at which a request was cancelled and the one at which it hears of that."""
        now = perf_counter()
        if waiting.let_in:
            level.leave(waiting.seats, now, waiting.queue)
        else:
            level.give_up(waiting, now)

    def _refused(self, flow: Flow, reason: str, waited: float) -> ApiError:
        stats = flow.stats
        stats.reject(reason)
        stats.refused_after.add(waited)
        # The longer the queues, the later it makes sense to come again; upstream stays within 1 to 32 seconds, too.
        patience = 1 + min(flow.level.waiting // max(flow.level.limit, 1), 31)
        return too_many_requests(REFUSAL, patience)

    def leave(self, flow: Flow, seats: int, waiting: Waiting | None, began: float, *, watch: bool = False) -> None:
        """The request is done, or (a watch) has begun: its seats are free again."""
        now = perf_counter()
        stats = flow.stats
        (stats.begun if watch else stats.served).add(now - began)
        if seats > 1:
            stats.beside -= seats - 1
        flow.level.leave(seats, now, waiting.queue if waiting is not None else None, now - began)

    # --- for people --------------------------------------------------------------------------------------------------

    def waiting(self) -> Iterator[Waiting]:
        """Everybody who stands in a queue now."""
        for level in self.levels.values():
            for queue in level.queues:
                yield from queue.waiting


def seats_of(count: int, query: Mapping[str, str]) -> int:
    """How wide a list is: a seat for each hundred objects that have to be looked at, at most ten.

    ``count`` is how many there are in the namespace (or the cluster). With ``limit`` and no selectors only so many are
    looked at; with selectors up to all of them.
    """
    if count <= OBJECTS_PER_SEAT:
        return 1
    if query and "limit" in query and "labelSelector" not in query and "fieldSelector" not in query:
        text = query["limit"]
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text):
            count = min(count, int(text))
    return max(1, min(MOST_SEATS, -(-count // int(OBJECTS_PER_SEAT))))


def _lane(flow: Flow) -> object:
    """Who waits with whom for turns. A level that is exempt has its schemas apart: probes do not stand behind an
    administrator's lists."""
    return flow.schema.name if flow.level.exempt else flow.level


def _shares(obj: Obj) -> int:
    spec = obj.get("spec") or {}
    if spec.get("type") == "Exempt":
        return int((spec.get("exempt") or {}).get("nominalConcurrencyShares") or 0)
    return int((spec.get("limited") or {}).get("nominalConcurrencyShares", 30))


def _tunable(held: Obj, mandatory: Obj) -> Obj:
    """What people may change of a mandatory object: how many seats the exempt level reserves and lends."""
    if mandatory["metadata"]["name"] == EXEMPT and mandatory["kind"] == "PriorityLevelConfiguration":
        exempt = (held.get("spec") or {}).get("exempt")
        return {"exempt": exempt} if exempt else {}
    return {}
