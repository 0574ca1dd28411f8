"""Answers of nameservers, remembered for as long as they say, never longer. Pure.

Bounded in number and in bytes: an agent is small whatever its pods ask for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from agents.dns import wire
from agents.dns.received import Received
from agents.dns.reply import Reply

LONGEST_SECONDS = 30.0
"""As kubeadm's ``cache 30``: whatever its TTL, a changed answer is seen after that."""
MOST = 10_000
MOST_BYTES = 2 << 20
_OVERHEAD = 400
"""Bytes that an entry needs besides its message, about."""

Key = tuple[str, int, bool, int]


@dataclass(slots=True)
class _Entry:
    came: float
    until: float
    received: Received
    age: int = 0
    reply: Reply | None = None


class Memory:
    """`put` an answer, `get` what is to be said now."""

    def __init__(self, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._most, self._most_bytes = most, most_bytes
        self.bytes = 0
        self.evictions = 0

    def __repr__(self) -> str:
        return f"<Memory {len(self._entries)} answers, {self.bytes} bytes>"

    def __len__(self) -> int:
        return len(self._entries)

    def counts(self) -> tuple[int, int]:
        """(answers with records, denials)."""
        denials = sum(1 for entry in self._entries.values() if _is_denial(entry.received))
        return len(self._entries) - denials, denials

    def get(self, key: Key, now: float) -> Reply | None:
        """What to say at the time ``now`` (monotonic seconds)."""
        entry = self._entry(key, now)
        if entry is None:
            return None
        age = int(now - entry.came)
        if entry.reply is None or age != entry.age:
            entry.age, entry.reply = age, entry.received.aged(age).reply()
        self._entries.move_to_end(key)
        return entry.reply

    def aged(self, key: Key, now: float) -> Received | None:
        """The answer as it would come at the time ``now``, to be put into another."""
        entry = self._entry(key, now)
        return None if entry is None else entry.received.aged(int(now - entry.came))

    def _entry(self, key: Key, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and now >= entry.until:
            self._drop(key)
            return None
        return entry

    def put(self, key: Key, received: Received, now: float) -> None:
        seconds = min(received.lifetime, LONGEST_SECONDS)
        self._drop(key)
        if seconds <= 0:
            return
        self._entries[key] = _Entry(now, now + seconds, received)
        self.bytes += len(received.body) + _OVERHEAD
        while len(self._entries) > self._most or self.bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))
            self.evictions += 1

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= len(entry.received.body) + _OVERHEAD


def _is_denial(received: Received) -> bool:
    return received.rcode == wire.NXDOMAIN or not received.counts[0]
