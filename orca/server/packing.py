"""Compression, by threads: who packs long lists leaves others their turn at it, as at the event loop.

A list of all pods is packed in dozens of jobs, and one connection's list is followed by the next. So jobs do not queue
by arrival: each lane has a queue, and the queues are served in turn. An answer then waits for a job of each of the busy
lanes, and not for all that others have asked for. Jobs are small for the same reason.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar

from orca.server.fairness.turns import Lane

GZIP_LEVEL = 1  # as kube-apiserver: more takes half as long again, for clients that are near
WBITS = 16 + zlib.MAX_WBITS
"""What makes zlib write and read gzip's form."""
_PACKED_AT_ONCE = 1024 * 1024
_UNPACKED_AT_ONCE = 64 * 1024
"""Bytes that are taken; of OpenAPI documents there come a dozen times as many."""

T = TypeVar("T")


class Rounds(Generic[T]):
    """What waits, in queues by whose it is. The queues are served in turn, each in order."""

    def __init__(self) -> None:
        self._queues: dict[object, deque[T]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def put(self, whose: object, one: T) -> None:
        """Add to the end of a queue; who had none comes last."""
        self._queues.setdefault(whose, deque()).append(one)

    def take(self) -> T:
        """Of the queue whose turn it is, the first. Raises LookupError when nothing waits."""
        whose = next(iter(self._queues), None)
        queue = self._queues.pop(whose)
        one = queue.popleft()
        if queue:
            self._queues[whose] = queue
        return one


class Packer:
    """Threads for short jobs, shared out among lanes."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "pack")
        self._lock = Lock()
        self._waiting: Rounds[tuple[Future[Any], Callable[[], Any]]] = Rounds()

    async def run(self, lane: Lane, job: Callable[[], T]) -> T:
        """What ``job`` returns, computed by a thread. Who is cancelled before it began leaves nothing to do."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.put(lane.key, (future, job))
        # One for each job, and each does the job whose turn it is by then.
        self._pool.submit(self._next)
        return await asyncio.wrap_future(future)

    def _next(self) -> None:
        with self._lock:
            future, job = self._waiting.take()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)


PACKER = Packer(max((os.cpu_count() or 1) - 1, 1))
"""One core is left to the event loop: threads that need no interpreter would share its core with it otherwise."""


async def packed(body: bytes, lane: Lane) -> bytes:
    """``body`` in gzip's form."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=WBITS)
    return await _in_parts(body, _PACKED_AT_ONCE, packer.compress, packer.flush, lane)


async def unpacked(body: bytes, lane: Lane) -> bytes:
    """What ``body`` has in gzip's form."""
    unpacker = zlib.decompressobj(WBITS)
    return await _in_parts(body, _UNPACKED_AT_ONCE, unpacker.decompress, unpacker.flush, lane)


async def _in_parts(
    body: bytes, at_once: int, work: Callable[[memoryview], bytes], flush: Callable[[], bytes], lane: Lane
) -> bytes:
    view = memoryview(body)
    made: list[bytes] = []

    def part(first: int) -> None:
        made.append(work(view[first : first + at_once]))
        if first + at_once >= len(body):
            made.append(flush())

    for first in range(0, len(body), at_once):
        await PACKER.run(lane, partial(part, first))
    return b"".join(made)
