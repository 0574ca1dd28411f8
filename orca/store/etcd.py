"""etcd over its gRPC stubs (as generated in aetcd): transactions, ranges, leases, compaction, one watch.

Why not aetcd's own client: it keeps one deadline for everything, cannot page, and hides header revisions. Errors of the
transport are translated here, once, by what the caller should do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from time import perf_counter
from typing import Any

import grpc
from aetcd import rpc

from orca.store import revisions
from orca.store.channels import EtcdTls, Member, Members, tls_for
from orca.store.commits import Commits, pair_of
from orca.store.outcomes import (
    EtcdCompacted,
    EtcdError,
    EtcdUnavailable,
    KeyValue,
    Seen,
    Transacted,
    Write,
    Written,
)
from orca.store.timing import Times

CALL_SECONDS = 5.0
PAGE = 1000
_OURS = b"/registry/"
"""What we may be allowed to see of an etcd that others use, too."""
Method = Callable[[Member], Callable[..., Awaitable[Any]]]
_RANGE: Method = attrgetter("kv.Range")
_TXN: Method = attrgetter("kv.Txn")
_PUT: Method = attrgetter("kv.Put")
_COMPACT: Method = attrgetter("kv.Compact")
_GRANT: Method = attrgetter("lease.LeaseGrant")
_REVOKE: Method = attrgetter("lease.LeaseRevoke")
_STATUS: Method = attrgetter("maintenance.Status")
_NOT_CONNECTED = (
    "failed to connect",
    "Connection refused",
    "connections to all backends failing",
    "connection attempt timed out",
    "errors resolving",
    "DNS resolution failed",
)
"""What gRPC says when it has no connection on which a request could have been sent."""
_UNANSWERED = frozenset(
    (
        rpc.StatusCode.UNAVAILABLE,
        rpc.StatusCode.DEADLINE_EXCEEDED,
        rpc.StatusCode.CANCELLED,
        rpc.StatusCode.INTERNAL,
        rpc.StatusCode.UNKNOWN,
    )
)
"""What does not tell whether a write has happened: no answer, or a stream that broke. What etcd refuses, it names."""


def end_of(prefix: bytes) -> bytes:
    """The range end that covers every key starting with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Etcd:
    """A connection to one etcd cluster. `endpoints` like "127.0.0.1:2379" or "https://host:2379"; the latter, or `tls`,
    mean TLS. Raises EtcdTlsInvalid when they contradict each other."""

    def __init__(self, endpoints: str | Sequence[str], *, tls: EtcdTls | None = None) -> None:
        named = [one for each in ([endpoints] if isinstance(endpoints, str) else endpoints) for one in each.split(",")]
        self.addresses = [address.split("://", 1)[-1].rstrip("/") for address in named]
        self._tls = tls_for(named, tls)
        self._members: Members | None = None
        self._commits = Commits(partial(self._call, _TXN))
        self.times = Times()
        self.trouble = ""
        """What went wrong last, for people."""

    def __repr__(self) -> str:
        return f"<Etcd {','.join(self.addresses)}>"

    def open(self) -> None:
        """Makes the channels; they connect when first used. Again is harmless. Raises EtcdError for what is no
        address."""
        if self._members is not None:
            return
        try:
            self._members = Members(self.addresses, self._tls)
        except ValueError as error:
            raise EtcdError(str(error)) from error

    async def close(self) -> None:
        if self._members is not None:
            await self._members.close()

    @property
    def _member(self) -> Member:
        assert self._members is not None
        return self._members.pick()

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get(self, key: bytes) -> tuple[KeyValue | None, int]:
        """The newest value and the cluster's revision (linearizable)."""
        answer = await self._timed("get", key, _RANGE, rpc.RangeRequest(key=key))
        return (pair_of(answer.kvs[0]) if answer.kvs else None), revisions.through(answer.header.revision)

    async def stale(self, key: bytes) -> bool:
        """Whether a value should be written anew although it did not change: only where values are encrypted."""
        return False

    async def revision(self, key: bytes) -> int:
        """The cluster's revision now (linearizable)."""
        answer = await self._call(_RANGE, rpc.RangeRequest(key=key, keys_only=True, limit=1))
        return revisions.through(answer.header.revision)

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, page: int = PAGE
    ) -> AsyncIterator[tuple[list[KeyValue], int]]:
        """(values, revision) of [start, end) at one revision: the one given or, for 0, that of the first page.
        Raises EtcdCompacted."""
        transaction = _state_at(revision)
        later = await self._later(start, end, revision)
        while True:
            request = rpc.RangeRequest(key=start, range_end=end, limit=page, revision=transaction)
            answer = await self._timed("list", start, _RANGE, request, 30)
            transaction = transaction or answer.header.revision
            revision = revision or revisions.through(transaction)
            found = [pair_of(pair) for pair in answer.kvs]
            following = found[-1].key + b"\0" if answer.more else end
            yield _without(found, later, start, following) if later else found, revision
            if not answer.more:
                return
            start = following

    async def count(self, start: bytes, end: bytes, revision: int) -> int:
        """How many keys there were in [start, end) at `revision`. Raises EtcdCompacted."""
        request = rpc.RangeRequest(key=start, range_end=end, revision=_state_at(revision), count_only=True)
        later = await self._later(start, end, revision)
        found: int = (await self._call(_RANGE, request)).count
        gone = sum(1 for one in later.values() if one.value is None)
        return found + gone - sum(1 for one in later.values() if one.created)

    async def _later(self, start: bytes, end: bytes, revision: int) -> dict[bytes, Seen]:
        """What was done in [start, end) after `revision` in the transaction that it is in the middle of, which etcd
        tells only to watches. Raises EtcdCompacted."""
        found: dict[bytes, Seen] = {}
        if not revision or revision == revisions.complete(revision):
            return found
        transaction = revisions.transaction_of(revision)
        # All our keys, because every transaction of ours has something to tell then; and values as `pages` reads them.
        watch = Etcd.watch(self, _OURS, end_of(_OURS), revisions.at(transaction), previous=True)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                batch = await anext(watch)
        except TimeoutError as error:
            raise EtcdUnavailable(f"etcd: nothing was heard of revision {transaction}") from error
        finally:
            await watch.aclose()
        for one in batch:
            if revision < one.revision <= revisions.through(transaction) and start <= one.key < end:
                if one.previous is None and not one.created:
                    raise EtcdCompacted
                found[one.key] = one
        return found

    # --- writing -----------------------------------------------------------------------------------------------------

    async def put(self, key: bytes, value: bytes, expected: int, lease: int = 0) -> Written:
        """Writes when the key's last revision is `expected` (0: when there is none)."""
        return _alone(await self.transact((Write(key, value, expected, lease),)))

    async def delete(self, key: bytes, expected: int) -> Written:
        """Deletes when the key's last revision is `expected`."""
        return _alone(await self.transact((Write(key, None, expected),)))

    async def transact(self, writes: Sequence[Write]) -> Transacted:
        """All of `writes` when every expectation holds, else none of them."""
        first = writes[0]
        operation = "delete" if first.value is None else "update" if first.expected else "create"
        times, began = self.times.of(operation, first.key), perf_counter()
        try:
            done = await self._commits.commit(writes)
        except EtcdError:
            times.failed += 1
            raise
        times.observe(perf_counter() - began)
        return done

    async def tick(self, key: bytes) -> int:
        """Writes a key nobody reads; answers the revision, which every watch must reach."""
        answer = await self._call(_PUT, rpc.PutRequest(key=key, value=b""))
        return revisions.at(answer.header.revision)

    async def grant(self, seconds: int) -> int:
        """A lease; keys attached to it vanish after `seconds`."""
        answer = await self._call(_GRANT, rpc.LeaseGrantRequest(TTL=seconds))
        lease: int = answer.ID
        return lease

    async def keep_alive(self, lease: int) -> bool:
        """Begins a lease's time anew; False when it is over already."""
        stream = self._member.lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=lease)]), timeout=CALL_SECONDS)
        try:
            async for answer in stream:
                return bool(answer.TTL > 0)
            return False
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        finally:
            stream.cancel()

    async def revoke(self, lease: int) -> None:
        """Ends a lease now, with all keys attached to it."""
        await self._call(_REVOKE, rpc.LeaseRevokeRequest(ID=lease))

    async def compact(self, revision: int) -> None:
        """Forgets what was before `revision`. Raises EtcdCompacted when that has been done already."""
        await self._call(_COMPACT, rpc.CompactionRequest(revision=revisions.transaction_of(revision)), seconds=30)

    # --- watching ----------------------------------------------------------------------------------------------------

    async def watch(
        self, start: bytes, end: bytes, since: int, *, previous: bool = False, opened: Callable[[], None] | None = None
    ) -> AsyncGenerator[list[Seen], None]:
        """Batches of events from revision `since` on, for ever; `opened` is called when etcd has confirmed the watch.
        Raises EtcdCompacted or EtcdUnavailable."""
        first = max(revisions.transaction_of(since), 1)
        create = rpc.WatchCreateRequest(key=start, range_end=end, start_revision=first, prev_kv=previous)
        order = revisions.Order()
        ended = asyncio.Event()

        async def requests() -> AsyncIterator[Any]:
            yield rpc.WatchRequest(create_request=create)
            await ended.wait()

        # A member cut off from the others has no news and does not know it: it is to say so instead of keeping silent.
        stream = self._member.watch.Watch(requests(), metadata=(("hasleader", "true"),))
        try:
            async for answer in stream:
                if answer.compact_revision:
                    raise EtcdCompacted(revisions.at(answer.compact_revision + 1))
                if answer.canceled:
                    raise EtcdUnavailable(answer.cancel_reason or "watch cancelled")
                if answer.created and opened is not None:
                    opened()
                seen = [_seen(event, order) for event in answer.events]
                if seen and seen[0].revision < since:
                    # etcd begins with the whole transaction.
                    seen = [one for one in seen if one.revision >= since]
                if seen:
                    yield seen
            raise EtcdUnavailable("watch ended")
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        finally:
            ended.set()
            stream.cancel()

    async def size(self) -> int:
        """Bytes of the database, as the member that answers has it."""
        answer = await self._call(_STATUS, rpc.StatusRequest())
        size: int = answer.dbSize
        return size

    async def _timed(
        self,
        operation: str,
        key: bytes,
        method: Method,
        request: Any,
        seconds: float = CALL_SECONDS,
    ) -> Any:
        times, began = self.times.of(operation, key), perf_counter()
        try:
            answer = await self._call(method, request, seconds)
        except EtcdError:
            times.failed += 1
            raise
        times.observe(perf_counter() - began)
        return answer

    async def _call(self, method: Method, request: Any, seconds: float = CALL_SECONDS) -> Any:
        """One request. While no connection can be made nothing was sent, so it is tried again for `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                return await method(self._member)(request, timeout=max(deadline - loop.time(), 0.05))
            except grpc.aio.AioRpcError as error:
                self.trouble = error.details() or ""
                if self._tls is not None and "Unwrap failed" in self.trouble:
                    wanted = "another certificate than --etcd-certfile" if self._tls.certificate else "--etcd-certfile"
                    self.trouble = f"it hung up on us, and may want {wanted}: {self.trouble}"
                if not _never_sent(error) or loop.time() + 0.1 > deadline:
                    raise _translated(error) from error
            await asyncio.sleep(0.05)


def _state_at(revision: int) -> int:
    """etcd's revision with the state at ours, 0 for the newest. Raises EtcdCompacted for one before etcd's first."""
    transaction = revisions.transaction_of(revision)
    if revision and not transaction:
        raise EtcdCompacted
    return transaction


def _without(found: list[KeyValue], later: dict[bytes, Seen], start: bytes, end: bytes) -> list[KeyValue]:
    """`found`, which is all there is in [start, end), as it was before `later`."""
    before = [one.previous for one in later.values() if one.previous is not None and start <= one.key < end]
    return sorted([pair for pair in found if pair.key not in later] + before, key=attrgetter("key"))


def _alone(done: Transacted) -> Written:
    return Written(done.won, done.revision, None if done.won else done.current[0])


def _never_sent(error: grpc.aio.AioRpcError) -> bool:
    if error.code() is not rpc.StatusCode.UNAVAILABLE:
        return False
    details = error.details() or ""
    if "andshake failed" in details:
        return False  # certificates do not become others meanwhile
    return any(sign in details for sign in _NOT_CONNECTED)


def _translated(error: grpc.aio.AioRpcError) -> EtcdError:
    details = error.details() or ""
    if "compacted" in details:
        return EtcdCompacted()
    if error.code() in _UNANSWERED:
        return EtcdUnavailable(f"etcd: {details}")
    return EtcdError(f"etcd: {error.code().name}: {details}")


def _seen(event: Any, order: revisions.Order) -> Seen:
    pair = event.kv
    transaction = pair.mod_revision
    previous = pair_of(event.prev_kv) if event.HasField("prev_kv") else None
    if event.type:
        return Seen(pair.key, order.deleted(transaction), None, False, previous)
    value, place = revisions.taken(pair.value)
    return Seen(pair.key, order.put(transaction, place), value, pair.create_revision == transaction, previous)
