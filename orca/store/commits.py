"""Writes to etcd: what is to be written at the same moment shares a transaction.

A transaction costs etcd and its client about the same whatever it writes. Each part of a shared one keeps its own
conditions: it is written, or not, as it would be alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from aetcd import rpc

from orca.store import revisions
from orca.store.fence import FENCE
from orca.store.outcomes import EtcdError, EtcdFenced, EtcdUnavailable, KeyValue, Transacted, Write

PATIENCE_SECONDS = 0.01
"""How long writes wait for the transaction that is under way, to share the next one. Mostly that is over sooner: etcd
sets the pace, and what arrives meanwhile would stand in its queue."""
TURNS = 2
"""of the event loop without a further write, after which a transaction begins. Requests that arrived together are
computed over some turns, as the loop's time is shared out; whoever came last of them shares the transaction as well.
A loop that has nothing else to do makes them in microseconds."""
MOST = 32
"""Writes in a shared transaction."""
BYTES = 256 * 1024
"""Of values in a shared transaction; etcd takes 1.5 MiB."""
SMALL = 32 * 1024
"""Bytes of values up to which a write waits for no larger one."""
UNDER_WAY = 1024 * 1024
"""Bytes of larger ones that etcd is given at once. It writes them one after the other, and whatever comes then, however
small, stands behind all of them."""
OVERDUE = 4.0
"""Seconds: less than etcd is given to answer. A larger one that has stood as long when a transaction before it gets no
answer is not sent any more: one after the other, the last would be told a minute later than the first."""


def pair_of(pair: Any) -> KeyValue:
    """What etcd tells of a key."""
    value, place = revisions.taken(pair.value)
    revision = pair.mod_revision
    return KeyValue(pair.key, value, revisions.at(revision, place), pair.create_revision == revision)


class _Wanted:
    """Writes that wait for their outcome."""

    __slots__ = ("fence", "outcome", "sent", "since", "size", "writes")

    def __init__(self, writes: Sequence[Write], outcome: asyncio.Future[Transacted], since: float) -> None:
        self.writes = writes
        self.outcome = outcome
        self.since = since
        self.sent = False  # whether etcd may have seen it, and not refused it
        self.fence = FENCE.get()
        self.size = sum(len(one.value) for one in writes if one.value is not None)

    def wanted(self) -> bool:
        """Whether it is to be written still: nothing is once the term is known to be over, whatever etcd knows."""
        if self.fence is not None and self.fence.why:
            self.fail(EtcdFenced(f"this server does not lead any more: {self.fence}"))
        return not self.outcome.done()

    def fill(self, request: Any, place: int) -> None:
        """Make `request` ours, the first write at `place`. Messages are filled where they are: made from others, they
        would be copied each time."""
        for number, one in enumerate(self.writes, place):
            if one.expected is not None:
                equal = request.compare.add()
                equal.target, equal.key = rpc.Compare.MOD, one.key
                equal.mod_revision = revisions.transaction_of(one.expected) if one.expected else 0
            change = request.success.add()
            if one.value is None:
                change.request_delete_range.key = one.key
            else:
                put = change.request_put
                put.key, put.value, put.lease = one.key, revisions.placed(one.value, number), one.lease
            request.failure.add().request_range.key = one.key
        if self.fence is not None:
            last = request.compare.add()
            last.target, last.key = rpc.Compare.MOD, self.fence.key
            last.mod_revision = revisions.transaction_of(self.fence.revision)

    def take(self, answer: Any, transaction: int, order: revisions.Order, place: int) -> None:
        """Read the outcome."""
        if answer.succeeded and len(self.writes) == 1 and self.writes[0].value is not None:
            found = Transacted(True, order.put(transaction, place), [])
        elif answer.succeeded:
            first = 0
            for number, (one, response) in enumerate(zip(self.writes, answer.responses, strict=True), place):
                if one.value is not None:
                    revision = order.put(transaction, number)
                elif response.response_delete_range.deleted:
                    revision = order.deleted(transaction)
                else:
                    revision = revisions.at(transaction)
                first = first or revision
            found = Transacted(True, first, [])
        else:
            told = [one.response_range.kvs for one in answer.responses]
            current = [pair_of(kvs[0]) if kvs else None for kvs in told]
            if self.fence is not None and self._met(current):
                self.fence.end("another one has begun")
                self.wanted()
                return
            found = Transacted(False, revisions.at(transaction), current)
        if not self.outcome.done():
            self.outcome.set_result(found)

    def _met(self, current: Sequence[KeyValue | None]) -> bool:
        """Whether all expectations hold: then it was the fence that kept the writes from happening."""
        there = (pair.revision if pair is not None else 0 for pair in current)
        return all(one.expected in (None, revision) for one, revision in zip(self.writes, there, strict=True))

    def fail(self, error: EtcdError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class Commits:
    """`send` makes one transaction; it raises EtcdError."""

    def __init__(self, send: Callable[[Any], Awaitable[Any]]) -> None:
        self._send = send
        self._waiting: list[_Wanted] = []
        self._large: deque[_Wanted] = deque()
        self._under_way = 0  # bytes of large ones
        self._tasks: set[asyncio.Task[None]] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._gathering = False
        self._seen = 0
        self._quiet = 0
        self._latest = 0.0

    async def commit(self, writes: Sequence[Write]) -> Transacted:
        """All of `writes` when every expectation holds, else none of them; behind a fence, on that condition as well.
        Raises EtcdError, EtcdFenced when that alone kept them from happening."""
        loop = asyncio.get_running_loop()
        wanted = _Wanted(writes, loop.create_future(), loop.time())
        self._waiting.append(wanted)
        if self._patience is None and not self._gathering:
            self._gather(loop)
        try:
            return await wanted.outcome
        except (EtcdUnavailable, asyncio.CancelledError) as error:
            if not wanted.sent:
                self._leave(wanted)
            elif wanted.fence is not None:
                wanted.fence.end(f"it is not known what became of a write: {error}")
            raise

    def _leave(self, wanted: _Wanted) -> None:
        for queue in (self._waiting, self._large):
            if wanted in queue:
                queue.remove(wanted)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin once nobody else comes, or ``PATIENCE_SECONDS`` from now."""
        self._gathering = True
        self._seen, self._quiet = len(self._waiting), 0
        self._latest = loop.time() + PATIENCE_SECONDS
        loop.call_soon(self._turned, loop)

    def _turned(self, loop: asyncio.AbstractEventLoop) -> None:
        """A turn of the loop is over."""
        there = len(self._waiting)
        self._quiet = self._quiet + 1 if there == self._seen else 0
        self._seen = there
        if self._quiet < TURNS and there < MOST and loop.time() < self._latest:
            loop.call_soon(self._turned, loop)
            return
        self._gathering = False
        self._begin()

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for together in _shared([one for one in waiting if one.size <= SMALL and one.wanted()]):
            self._start(together)
            if self._patience is None:
                self._patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._go_on)
        self._large += [one for one in waiting if one.size > SMALL]
        self._begin_large()

    def _begin_large(self) -> None:
        while self._large and self._under_way < UNDER_WAY:
            some = [self._large.popleft()]
            size = some[0].size
            while self._large and size + self._large[0].size <= BYTES:
                size += self._large[0].size
                some.append(self._large.popleft())
            for together in _shared([one for one in some if one.wanted()]):
                size = sum(one.size for one in together)
                self._under_way += size
                self._start(together).add_done_callback(partial(self._ended_large, size))

    def _ended_large(self, size: int, _: asyncio.Task[None]) -> None:
        self._under_way -= size
        self._begin_large()

    def _give_up(self, error: EtcdUnavailable) -> None:
        """Nothing more is sent of what is overdue."""
        latest = asyncio.get_running_loop().time() - OVERDUE
        while self._large and self._large[0].since <= latest:
            self._large.popleft().fail(error)

    def _start(self, together: list[_Wanted]) -> asyncio.Task[None]:
        for one in together:
            one.sent = True
        task = asyncio.create_task(self._commit(together))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._patience is not None:
            self._go_on()

    def _go_on(self) -> None:
        assert self._patience is not None
        self._patience.cancel()
        self._patience = None
        if self._waiting:
            self._gather(asyncio.get_running_loop())

    async def _commit(self, together: list[_Wanted]) -> None:
        try:
            await self._transact(together)
        except EtcdUnavailable as error:
            for one in together:
                one.fail(error)
            if together[0].size > SMALL:
                self._give_up(error)
        except EtcdError as error:
            if len(together) == 1:
                together[0].fail(error)
                return
            # Refused because of one of them, perhaps: nothing was written, and the others are as good as before.
            for one in together:
                one.sent = False
            for one in together:
                if one.wanted():
                    one.sent = True
                    await self._commit([one])
        finally:
            for one in together:  # nobody waits for ever, also when this ends in a way it should not
                one.fail(EtcdUnavailable("etcd: the request was broken off"))

    async def _transact(self, together: list[_Wanted]) -> None:
        request = rpc.TxnRequest()
        order = revisions.Order()
        if len(together) == 1:
            together[0].fill(request, 0)
            answer = await self._send(request)
            together[0].take(answer, answer.header.revision, order, 0)
            return
        place = 0
        for one in together:
            one.fill(request.success.add().request_txn, place)
            place += len(one.writes)
        put = next((write.key for one in together for write in one.writes if write.value is not None), None)
        if put is not None:
            # Never done, as nothing is compared out here. etcd counts what a transaction would take of its space
            # without looking into others within it: one that seems to take none is let through when none is left.
            request.failure.add().request_put.key = put
        answer = await self._send(request)
        place = 0
        for one, response in zip(together, answer.responses, strict=True):
            one.take(response.response_txn, answer.header.revision, order, place)
            place += len(one.writes)


def _shared(waiting: list[_Wanted]) -> list[list[_Wanted]]:
    """Who shares a transaction: no more than `MOST` writes, as far as there is room; a key is written once in each."""
    found: list[list[_Wanted]] = []
    keys: set[bytes] = set()
    left = room = 0
    for one in waiting:
        own = [write.key for write in one.writes]
        if len(own) > left or one.size > room or not keys.isdisjoint(own):
            found.append([])
            keys.clear()
            left, room = MOST, BYTES
        found[-1].append(one)
        keys.update(own)
        left -= len(own)
        room -= one.size
    return found
