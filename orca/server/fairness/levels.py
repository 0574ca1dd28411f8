"""One priority level: its seats, who sits on them, and the queues before them. Pure: time comes in, callbacks go out.

Queues are served by virtual finish time (fair queueing for a server whose service times are only known afterwards), as
k8s.io/apiserver ``fairqueuing/queueset`` does it: each queue has the virtual time at which its next request would
begin; a request is charged an estimate when it is dispatched, and the difference when it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from orca.api.objects import Obj
from orca.server.fairness.demand import Demand

ESTIMATE = 0.003
"""Seconds a request is assumed to take until it is known better."""
Want = tuple[float, float, float]
"""Target, lower and upper bound of a level's seats."""


class Waiting:
    """A request in a queue. ``grant`` is called when its turn has come."""

    __slots__ = ("arrived", "grant", "label", "let_in", "passed_over", "queue", "seats")

    def __init__(self, seats: int, arrived: float, grant: Callable[[], None], label: object) -> None:
        self.seats = seats
        self.arrived = arrived
        self.grant = grant
        self.label = label
        self.queue: Queue | None = None
        self.let_in = False  # its seats are taken, whether or not anybody is there any more to hear of it
        self.passed_over = 0  # how often it was its turn, and there was no room


class Queue:
    """Requests in order of arrival."""

    __slots__ = ("executing", "index", "next_r", "seats", "waiting")

    def __init__(self, index: int) -> None:
        self.index = index
        self.waiting: list[Waiting] = []  # some dozens at most; a deque of its own would cost each 600 bytes
        self.seats = 0  # of those that wait
        self.executing = 0
        self.next_r = 0.0


class Level:
    """``limit`` is how many seats may be taken now; it moves between the bounds as levels lend and borrow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uid = ""
        self.exempt = False
        self.shares = 0
        self.lendable_percent = 0
        self.borrowing_percent: int | None = None
        self.queue_count = 0
        self.hand_size = 0
        self.queue_length = 0
        self.nominal = 0
        self.least = 0
        self.most = 0
        self.limit = 0
        self.executing = 0  # seats
        self.running = 0  # requests
        self.waiting = 0  # requests
        self.waiting_seats = 0
        self.queues: list[Queue] = []
        self.demand = Demand()
        self.dispatched_at = 0.0
        self.last_served = 0.0
        """Virtual times: when a request was last let in from a queue, and when it would have been in its queue."""
        self._r = 0.0
        self._r_at = 0.0

    def __repr__(self) -> str:
        return f"<Level {self.name}: {self.executing}/{self.limit} seats, {self.waiting} waiting>"

    def configure(self, obj: Obj) -> None:
        """Take what a PriorityLevelConfiguration says; requests that wait or run go on."""
        spec = obj.get("spec") or {}
        self.uid = obj["metadata"].get("uid") or ""
        self.exempt = spec.get("type") == "Exempt"
        part = (spec.get("exempt") if self.exempt else spec.get("limited")) or {}
        self.shares = int(part.get("nominalConcurrencyShares", 0 if self.exempt else 30) or 0)
        self.lendable_percent = int(part.get("lendablePercent") or 0)
        self.borrowing_percent = part.get("borrowingLimitPercent")
        queuing = (part.get("limitResponse") or {}).get("queuing") or {}
        self.queue_count = int(queuing.get("queues") or 0)
        self.hand_size = min(int(queuing.get("handSize") or 0), self.queue_count)
        self.queue_length = int(queuing.get("queueLengthLimit") or 0)
        while len(self.queues) < self.queue_count:
            self.queues.append(Queue(len(self.queues)))

    def allot(self, total: int, all_shares: int) -> None:
        """Its part of the server's ``total`` seats."""
        self.nominal = math.ceil(total * self.shares / all_shares) if all_shares else 0
        lendable = round(self.nominal * self.lendable_percent / 100)
        self.least = self.nominal - lendable
        borrowing = total if self.borrowing_percent is None else round(self.nominal * self.borrowing_percent / 100)
        self.most = total if self.exempt else self.nominal + borrowing
        self.limit = min(max(self.limit or self.nominal, self.least), self.most)

    @property
    def capacity(self) -> int:
        """How many requests its queues hold."""
        return self.queue_count * self.queue_length

    @property
    def progress(self) -> float:
        """Virtual time when it was last looked at."""
        return self._r

    def account(self, now: float) -> None:
        """What was until now is reckoned with the limits that it had."""
        self.demand.note(self.executing, self.running, self.waiting_seats, self.waiting, now)
        self.demand.fold(self.nominal, self.nominal if self.exempt else self.limit, self.capacity)

    # --- requests ----------------------------------------------------------------------------------------------------

    def enter(self, seats: int, now: float) -> bool:
        """Take seats at once; False when it has to wait (or to go)."""
        if not self.exempt and (self.waiting or not self.fits(seats)):
            return False
        self.demand.note(self.executing, self.running, self.waiting_seats, self.waiting, now)
        self.executing += seats
        self.running += 1
        return True

    def fits(self, seats: int) -> bool:
        """Whether there is room. A request wider than the whole level gets it when it is alone."""
        if seats > self.limit:
            return self.running == 0 and self.limit > 0
        return self.executing + seats <= self.limit

    def leave(self, seats: int, now: float, waited_in: Queue | None = None, took: float = 0.0) -> None:
        """Give the seats back after ``took`` seconds, and let others have them."""
        self.demand.note(self.executing, self.running, self.waiting_seats, self.waiting, now)
        self.executing -= seats
        self.running -= 1
        if waited_in is not None:
            waited_in.executing -= 1
            waited_in.next_r += (took - ESTIMATE) * seats
        if self.waiting:
            self.dispatch(now)

    def enqueue(self, waiting: Waiting, hand: tuple[int, ...], now: float) -> bool:
        """Stand in the shortest queue of the hand; False when that is full or there are no queues."""
        if not hand:
            return False
        self._advance(now)
        queues = self.queues
        queue = min((queues[card] for card in hand), key=lambda one: one.seats)
        if len(queue.waiting) >= self.queue_length:
            return False
        self.demand.note(self.executing, self.running, self.waiting_seats, self.waiting, now)
        if not queue.waiting and not queue.executing:
            queue.next_r = self._r
        queue.waiting.append(waiting)
        queue.seats += waiting.seats
        waiting.queue = queue
        self.waiting += 1
        self.waiting_seats += waiting.seats
        self.dispatch(now)
        return True

    def give_up(self, waiting: Waiting, now: float) -> None:
        """It does not wait any longer."""
        queue = waiting.queue
        assert queue is not None
        self.demand.note(self.executing, self.running, self.waiting_seats, self.waiting, now)
        queue.waiting.remove(waiting)
        self._left(queue, waiting)
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Let in who may."""
        self._advance(now)
        while self.waiting:
            queue = min(
                (one for one in self.queues if one.waiting),
                key=lambda one: one.next_r + ESTIMATE * one.waiting[0].seats,
            )
            first = queue.waiting[0]
            if not self.exempt and not self.fits(first.seats):
                first.passed_over += 1
                return
            del queue.waiting[0]
            self._left(queue, first)
            queue.executing += 1
            self.dispatched_at, self.last_served = self._r, queue.next_r
            queue.next_r += ESTIMATE * first.seats
            self.executing += first.seats
            self.running += 1
            first.let_in = True
            first.grant()

    def _left(self, queue: Queue, waiting: Waiting) -> None:
        queue.seats -= waiting.seats
        self.waiting -= 1
        self.waiting_seats -= waiting.seats

    def _advance(self, now: float) -> None:
        """Virtual time runs as fast as one of the busy queues is served."""
        busy = sum(1 for one in self.queues if one.waiting or one.executing)
        if busy:
            seats = min(self.executing + self.waiting_seats, self.limit)
            self._r += (now - self._r_at) * seats / busy
        self._r_at = now


def borrow(levels: list[Level], total: int, now: float) -> float:
    """Shares the seats anew by what was demanded lately, within what each may lend and borrow. The multiple of the
    targets that the levels got."""
    limited: list[Level] = []
    wants: list[Want] = []
    for level in levels:
        level.account(now)
        demand = level.demand
        demand.close(level.executing + level.waiting_seats)
        lower = max(level.least, min(level.nominal, demand.high))
        demand.target = max(lower, demand.smoothed)
        if not level.exempt:
            limited.append(level)
            wants.append((demand.target, lower, level.most))
    factor = fair_fraction(wants, total)
    for level, seats in zip(limited, share_out(wants, factor), strict=True):
        level.limit = seats
        if level.waiting:
            level.dispatch(now)
    return factor


def share_out(wants: list[Want], factor: float) -> list[int]:
    """The same multiple of the targets, within the bounds."""
    return [round(seats) for seats in _shared(wants, factor)]


def _shared(wants: list[Want], factor: float) -> list[float]:
    return [min(max(factor * max(target, 1e-6), lower), upper) for target, lower, upper in wants]


def fair_fraction(wants: list[Want], total: int) -> float:
    """The multiple of the targets that uses up ``total``."""
    if sum(lower for _, lower, _ in wants) >= total:
        return 0.0
    if sum(upper for _, _, upper in wants) <= total:
        return max((upper / max(target, 1e-6) for target, _, upper in wants), default=0.0)
    low, high = 0.0, 1.0
    while sum(_shared(wants, high)) < total and high < 1e12:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if sum(_shared(wants, middle)) < total:
            low = middle
        else:
            high = middle
    return high
