"""Writing to many watchers at once.

A thousand watchers of one kind want the same bytes at the same time. Waking a task for each, and writing each event by
itself, costs several times what the bytes do. So those who have something to be sent are written to in rounds: one loop
over all of them, whose chunks are made once. The longer a round takes, the longer the next one waits: what happens
meanwhile goes out in one write. Where there are few watchers, or little happens, everything goes out at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter

from orca.server.connection import Connection
from orca.server.metrics import WatchCounts
from orca.store import Event, Watch

PAUSE = 2.0
"""A round begins this many times later than the last one as that one took: writing takes at most half of the time."""
PAUSE_MOST = 0.06
PAUSE_LEAST = 2e-3
"""Seconds; it is not worth a timer below."""
SLICE = 0.003
"""Seconds after which a round lets others do something."""
_SHARED = 64  # events; who gets more at once is behind, and alone
_KEPT = 1 << 18  # bytes


class Crowd:
    """All plain streams of one server."""

    def __init__(self) -> None:
        self._due: list[Member] = []
        self._serving: deque[Member] = deque()
        self._scheduled = False
        self._next = 0.0  # loop time before which no round begins
        self._began = 0.0
        self._spent = 0.0
        self._batch: list[Event] = []
        self._chunk = b""
        self._lines: list[bytes] = []
        self._counts: WatchCounts | None = None
        self._times = 0

    def due(self, member: Member) -> None:
        """Something is to be sent to ``member``; to be called once until it has been written to."""
        self._due.append(member)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        loop = asyncio.get_running_loop()
        pause = self._next - loop.time()
        if pause >= PAUSE_LEAST:
            loop.call_later(pause, self._round)
        else:
            loop.call_soon(self._round)

    def _round(self) -> None:
        self._serving.extend(self._due)
        self._due.clear()
        self._began = asyncio.get_running_loop().time()
        self._spent = 0.0
        self._slice()

    def _slice(self) -> None:
        serving, began = self._serving, perf_counter()
        end = began + SLICE
        while serving:
            serving.popleft().write()
            if perf_counter() > end and serving:
                self._spent += perf_counter() - began
                asyncio.get_running_loop().call_soon(self._slice)
                return
        self._tally()
        self._spent += perf_counter() - began
        self._next = self._began + min(PAUSE * self._spent, PAUSE_MOST)
        self._scheduled = False
        if self._due:
            self._schedule()

    def chunk(self, batch: list[Event], counts: WatchCounts) -> bytes:
        """A batch as one chunk of chunked encoding, which is counted as sent. Those who watch the same get the same
        batch."""
        if batch != self._batch or counts is not self._counts:  # events are compared by identity
            self._tally()
            lines = [event.line for event in batch]
            data = b"".join(lines)
            chunk = b"%x\r\n%b\r\n" % (len(data), data)
            if len(batch) > _SHARED or len(data) > _KEPT:
                counts.sent(lines)
                return chunk
            self._batch, self._lines, self._chunk, self._counts = batch, lines, chunk, counts
        self._times += 1
        return self._chunk

    def _tally(self) -> None:
        if self._times and self._counts is not None:
            self._counts.sent(self._lines, self._times)
            self._times = 0


class Member:
    """One watcher of a crowd, which is sent what ``watch`` has."""

    def __init__(self, crowd: Crowd, watch: Watch, connection: Connection, counts: WatchCounts) -> None:
        self._crowd = crowd
        self._watch = watch
        self._connection = connection
        self._counts = counts
        self._waiting = False  # for its turn
        self._gone = False
        self._stopped: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Member with {self._watch}>"

    async def follow(self) -> None:
        """Until the watch ends and all is written. Raises ConnectionResetError, and ApiError 410 at once."""
        await self._watch.start()
        self._watch.listener = self.notice
        try:
            while not self._watch.ended:
                self._stopped = asyncio.get_running_loop().create_future()
                if self._watch.waits:
                    self.notice()
                await self._stopped
                await self._connection.drained()
        finally:
            self._watch.listener = None
            self._gone = True
        while batch := await self._watch.batch():
            self._connection.write(self._crowd.chunk(batch, self._counts))
            await self._connection.drained()

    def notice(self) -> None:
        """The watch has something new, or has ended."""
        if self._watch.ended:
            self._stop()
        elif not self._waiting:
            self._waiting = True
            self._crowd.due(self)

    def write(self) -> None:
        """Send what there is, as much as the peer takes."""
        self._waiting = False
        if self._gone or self._watch.ended:
            return  # ``follow`` writes the rest itself
        connection = self._connection
        if connection.writing_paused:
            self._stop()
            return
        try:
            connection.write(self._crowd.chunk(self._watch.take(), self._counts))
        except Exception as error:
            # Whatever it is, ``follow`` raises it, and the others of the round are written to.
            self._stop(error)
            return
        if self._watch.waits:
            self.notice()

    def _stop(self, error: Exception | None = None) -> None:
        stopped = self._stopped
        if stopped is None or stopped.done():
            return
        if error is not None:
            stopped.set_exception(error)
        else:
            stopped.set_result(None)
