"""What keeps a leader that has been replaced, or does not know what it has written, from writing.

A lease alone cannot: a process that is stopped for a while, or whose request is held up somewhere, goes on in the
middle of what it was doing long after another one leads. So each leader begins a term by writing a key of etcd, and
every transaction it sends says "only if that is still the last term". etcd decides in its own order: once a new term is
written, no write of an earlier one can happen, and what the new leader reads from then on is all there is.

The same ends a doubt. When no answer came to a write, it may have happened, may still happen, or not: a leader that
went on with what it saw would do it a second time. It begins a new term instead and looks at everything anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Fence:
    """A term: the key in etcd and the revision at which it was written."""

    __slots__ = ("_over", "key", "revision", "why")

    def __init__(self, key: bytes, revision: int) -> None:
        self.key = key
        self.revision = revision
        self.why = ""
        """Why it is over; "" while it is not known to be."""
        self._over = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Fence {self.key.decode()} at {self.revision}{f', over: {self.why}' if self.why else ''}>"

    def end(self, why: str) -> None:
        """Nothing is to be written in this term any more."""
        self.why = self.why or why
        self._over.set()

    async def over(self) -> str:
        """Returns when the term is known to be over; answers why."""
        await self._over.wait()
        return self.why


FENCE: ContextVar[Fence | None] = ContextVar("fence", default=None)
"""Of the work that is going on. Tasks inherit it from who starts them; requests of clients have none."""


@contextmanager
def behind(fence: Fence) -> Iterator[None]:
    """What is begun here, with all tasks it starts, writes only while the term lasts."""
    token = FENCE.set(fence)
    try:
        yield
    finally:
        FENCE.reset(token)
