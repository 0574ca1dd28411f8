"""etcd's API (etcdserverpb/rpc.proto) on our own channel: transactions, ranges, leases, compaction, one watch.

Messages are few and small, so they are written and read field by field. Errors of the transport are translated here,
once, by what the caller should do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from orca.store import rpc
from orca.store.rpc import Channel, RpcError
from orca.store.wire import Value, blob, fields, number

CALL_SECONDS = 5.0
PAGE = 1000

_RANGE = "/etcdserverpb.KV/Range"
_PUT = "/etcdserverpb.KV/Put"
_TXN = "/etcdserverpb.KV/Txn"
_COMPACT = "/etcdserverpb.KV/Compact"
_GRANT = "/etcdserverpb.Lease/LeaseGrant"
_WATCH = "/etcdserverpb.Watch/Watch"
_MOD_EQUALS = number(2, 2)  # Compare: target MOD, result EQUAL being 0


class EtcdError(Exception):
    """etcd refused or failed a request in a way that trying again does not heal."""


class EtcdUnavailable(EtcdError):
    """No answer: nothing is known about what a write did. Try again later."""


class EtcdCompacted(EtcdError):
    """The revision asked for is no longer kept. `oldest` is the first that is, 0 when unknown."""

    def __init__(self, oldest: int = 0) -> None:
        super().__init__(f"compacted up to {oldest}")
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: bytes
    value: bytes
    revision: int
    created: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Outcome of a compare-and-write at `revision`; when it lost, `current` is what is there (None: nothing)."""

    won: bool
    revision: int
    current: KeyValue | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One watch event. `value` is None for a deletion; `previous` only when the watch asked for it."""

    key: bytes
    revision: int
    value: bytes | None
    created: bool
    previous: KeyValue | None


def end_of(prefix: bytes) -> bytes:
    """The range end that covers every key starting with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Etcd:
    """A connection to one etcd cluster. `endpoints` like "127.0.0.1:2379", "https://host:2379" or "unix:/path"."""

    def __init__(self, endpoints: str | Sequence[str], *, tls: ssl.SSLContext | None = None) -> None:
        named = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        all_ = [address for one in named for address in one.split(",")]
        if tls is None and any(address.startswith("https://") for address in all_):
            tls = ssl.create_default_context()
        self.addresses = [address.split("://", 1)[-1].rstrip("/") for address in all_]
        self._tls = tls
        self._channel: Channel | None = None

    def __repr__(self) -> str:
        return f"<Etcd {','.join(self.addresses)}>"

    def open(self) -> None:
        """Makes the channel; connects when first used."""
        self._channel = Channel(self.addresses, self._tls)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get(self, key: bytes) -> tuple[KeyValue | None, int]:
        """The newest value and the cluster's revision (linearizable)."""
        found, _, revision = _ranged(await self._call(_RANGE, blob(1, key)))
        return (found[0] if found else None), revision

    async def revision(self, key: bytes) -> int:
        """The cluster's revision now (linearizable)."""
        return _revision(await self._call(_RANGE, blob(1, key) + number(3, 1) + number(8, 1)))

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, page: int = PAGE
    ) -> AsyncIterator[tuple[list[KeyValue], int]]:
        """(values, revision) of [start, end) at one revision: the one given or, for 0, that of the first page.
        Raises EtcdCompacted."""
        while True:
            request = blob(1, start) + blob(2, end) + number(3, page) + number(4, revision)
            found, more, at = _ranged(await self._call(_RANGE, request, seconds=30))
            revision = revision or at
            yield found, revision
            if not more:
                return
            start = found[-1].key + b"\0"

    # --- writing -----------------------------------------------------------------------------------------------------

    async def put(self, key: bytes, value: bytes, expected: int, lease: int = 0) -> Written:
        """Writes when the key's last revision is `expected` (0: when there is none)."""
        put = blob(1, key) + blob(2, value)
        if lease:
            put += number(3, lease)
        return await self._compare(key, expected, blob(2, put))

    async def delete(self, key: bytes, expected: int) -> Written:
        """Deletes when the key's last revision is `expected`."""
        return await self._compare(key, expected, blob(3, blob(1, key)))

    async def _compare(self, key: bytes, expected: int, operation: bytes) -> Written:
        """`operation` is a RequestOp; losing answers what is there."""
        named = blob(1, key)
        condition = _MOD_EQUALS + blob(3, key) + number(6, expected)
        answer = await self._call(_TXN, blob(1, condition) + blob(2, operation) + blob(3, blob(1, named)))
        won = False
        revision = 0
        current: KeyValue | None = None
        for field, content in fields(answer):
            if field == 1:
                revision = _header(content)
            elif field == 2:
                won = bool(content)
            elif field == 3 and not won:
                for _, response in fields(_bytes(content)):
                    found, _, _ = _ranged(_bytes(response))
                    current = found[0] if found else None
        return Written(won, revision, None if won else current)

    async def tick(self, key: bytes) -> int:
        """Writes a key nobody reads; answers the revision, which every watch must reach."""
        return _revision(await self._call(_PUT, blob(1, key)))

    async def grant(self, seconds: int) -> int:
        """A lease; keys attached to it vanish after `seconds`."""
        answer = dict(fields(await self._call(_GRANT, number(1, seconds))))
        return int(answer[2])

    async def compact(self, revision: int) -> None:
        """Forgets what was before `revision`. Raises EtcdCompacted when that has been done already."""
        await self._call(_COMPACT, number(1, revision), seconds=30)

    # --- watching ----------------------------------------------------------------------------------------------------

    async def watch(
        self, start: bytes, end: bytes, since: int, *, previous: bool = False, opened: Callable[[], None] | None = None
    ) -> AsyncIterator[list[Seen]]:
        """Batches of events from revision `since` on, for ever; `opened` is called when etcd has confirmed the watch.
        Raises EtcdCompacted or EtcdUnavailable."""
        assert self._channel is not None
        create = blob(1, start) + blob(2, end) + number(3, since) + number(6, int(previous))
        try:
            async with aclosing(self._channel.stream(_WATCH, blob(1, create))) as answers:
                async for answer in answers:
                    events = _watched(answer, opened)
                    if events:
                        yield events
        except RpcError as error:
            raise _translated(error) from error

    async def _call(self, path: str, request: bytes, seconds: float = CALL_SECONDS) -> bytes:
        """One request. While no connection can be made nothing was sent, so it is tried again for `seconds`."""
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                return await self._channel.unary(path, request, max(deadline - loop.time(), 0.05))
            except RpcError as error:
                if not error.never_sent or loop.time() + 0.1 > deadline:
                    raise _translated(error) from error
            await asyncio.sleep(0.05)


def _translated(error: RpcError) -> EtcdError:
    if "compacted" in error.details:
        return EtcdCompacted()
    if error.code in (rpc.UNAVAILABLE, rpc.DEADLINE_EXCEEDED, rpc.CANCELLED):
        return EtcdUnavailable(f"etcd: {error.details}")
    return EtcdError(f"etcd: code {error.code}: {error.details}")


def _bytes(content: Value) -> bytes:
    assert isinstance(content, bytes)
    return content


def _header(content: Value) -> int:
    """The revision in a ResponseHeader."""
    for field, value in fields(_bytes(content)):
        if field == 3:
            return int(value)
    return 0


def _revision(answer: bytes) -> int:
    """The cluster's revision as any answer's header tells it."""
    for field, content in fields(answer):
        if field == 1:
            return _header(content)
    return 0


def _ranged(answer: bytes) -> tuple[list[KeyValue], bool, int]:
    """(values, more, revision) of a RangeResponse."""
    found: list[KeyValue] = []
    more = False
    revision = 0
    for field, content in fields(answer):
        if field == 2:
            found.append(_pair(_bytes(content)))
        elif field == 3:
            more = bool(content)
        elif field == 1:
            revision = _header(content)
    return found, more, revision


def _pair(raw: bytes) -> KeyValue:
    key = value = b""
    created = revision = 0
    for field, content in fields(raw):
        if field == 1:
            key = content  # type: ignore[assignment]
        elif field == 5:
            value = content  # type: ignore[assignment]
        elif field == 3:
            revision = content  # type: ignore[assignment]
        elif field == 2:
            created = content  # type: ignore[assignment]
    return KeyValue(key, value, revision, created == revision)


def _watched(answer: bytes, opened: Callable[[], None] | None) -> list[Seen]:
    """A WatchResponse's events. Raises EtcdCompacted or EtcdUnavailable when it ends the watch."""
    events: list[Seen] = []
    oldest = 0
    cancelled = created = False
    reason = ""
    for field, content in fields(answer):
        if field == 11:
            events.append(_seen(_bytes(content)))
        elif field == 5:
            oldest = int(content)
        elif field == 4:
            cancelled = bool(content)
        elif field == 3:
            created = bool(content)
        elif field == 6:
            reason = _bytes(content).decode()
    if oldest:
        raise EtcdCompacted(oldest + 1)
    if cancelled:
        raise EtcdUnavailable(reason or "watch cancelled")
    if created and opened is not None:
        opened()
    return events


def _seen(raw: bytes) -> Seen:
    deleted = False
    pair: KeyValue | None = None
    previous: KeyValue | None = None
    for field, content in fields(raw):
        if field == 2:
            pair = _pair(_bytes(content))
        elif field == 1:
            deleted = bool(content)
        elif field == 3:
            previous = _pair(_bytes(content))
    assert pair is not None
    return Seen(pair.key, pair.revision, None if deleted else pair.value, pair.created, previous)
