"""etcd over its gRPC stubs (as generated in aetcd): transactions, ranges, leases, compaction, one watch.

Why not aetcd's own client: it keeps one deadline for everything, cannot page, and hides header revisions. Errors of the
transport are translated here, once, by what the caller should do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from time import perf_counter
from typing import Any

import grpc
from aetcd import rpc

from orca.store.channels import EtcdTls, Member, Members, tls_for
from orca.store.fence import FENCE
from orca.store.timing import Times

CALL_SECONDS = 5.0
PAGE = 1000
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
)
"""What gRPC says when it has no connection on which a request could have been sent."""


class EtcdError(Exception):
    """etcd refused or failed a request in a way that trying again does not heal."""


class EtcdUnavailable(EtcdError):
    """No answer: nothing is known about what a write did. Try again later."""


class EtcdFenced(EtcdError):
    """Nothing was written: the leader's term is over (``orca.store.fence``)."""


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
class Write:
    """A part of a transaction: `value` None deletes; `expected` as for `Etcd.put`, None writes whatever is there."""

    key: bytes
    value: bytes | None
    expected: int | None
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Transacted:
    """Outcome of several writes at once; when they lost, `current` is what is there now, in the order of the writes."""

    won: bool
    revision: int
    current: list[KeyValue | None]


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
    """A connection to one etcd cluster. `endpoints` like "127.0.0.1:2379" or "https://host:2379"; the latter, or `tls`,
    mean TLS. Raises EtcdTlsInvalid when they contradict each other."""

    def __init__(self, endpoints: str | Sequence[str], *, tls: EtcdTls | None = None) -> None:
        named = [one for each in ([endpoints] if isinstance(endpoints, str) else endpoints) for one in each.split(",")]
        self.addresses = [address.split("://", 1)[-1].rstrip("/") for address in named]
        self._tls = tls_for(named, tls)
        self._members: Members | None = None
        self.times = Times()
        self.trouble = ""
        """What went wrong last, for people."""

    def __repr__(self) -> str:
        return f"<Etcd {','.join(self.addresses)}>"

    def open(self) -> None:
        """Makes the channels; they connect when first used. Raises EtcdError for what is no address."""
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
        return (_pair(answer.kvs[0]) if answer.kvs else None), answer.header.revision

    async def stale(self, key: bytes) -> bool:
        """Whether a value should be written anew although it did not change: only where values are encrypted."""
        return False

    async def revision(self, key: bytes) -> int:
        """The cluster's revision now (linearizable)."""
        answer = await self._call(_RANGE, rpc.RangeRequest(key=key, keys_only=True, limit=1))
        revision: int = answer.header.revision
        return revision

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, page: int = PAGE
    ) -> AsyncIterator[tuple[list[KeyValue], int]]:
        """(values, revision) of [start, end) at one revision: the one given or, for 0, that of the first page.
        Raises EtcdCompacted."""
        while True:
            request = rpc.RangeRequest(key=start, range_end=end, limit=page, revision=revision)
            answer = await self._timed("list", start, _RANGE, request, 30)
            revision = revision or answer.header.revision
            found = [_pair(pair) for pair in answer.kvs]
            yield found, revision
            if not answer.more:
                return
            start = found[-1].key + b"\0"

    async def count(self, start: bytes, end: bytes, revision: int) -> int:
        """How many keys there were in [start, end) at `revision`. Raises EtcdCompacted."""
        request = rpc.RangeRequest(key=start, range_end=end, revision=revision, count_only=True)
        found: int = (await self._call(_RANGE, request)).count
        return found

    # --- writing -----------------------------------------------------------------------------------------------------

    async def put(self, key: bytes, value: bytes, expected: int, lease: int = 0) -> Written:
        """Writes when the key's last revision is `expected` (0: when there is none)."""
        request, change = _comparing(key, expected)
        put = change.request_put
        put.key, put.value, put.lease = key, value, lease
        return await self._compared("update" if expected else "create", key, request)

    async def delete(self, key: bytes, expected: int) -> Written:
        """Deletes when the key's last revision is `expected`."""
        request, change = _comparing(key, expected)
        change.request_delete_range.key = key
        return await self._compared("delete", key, request)

    async def _compared(self, operation: str, key: bytes, request: Any) -> Written:
        answer = await self._transaction(operation, key, request)
        if answer.succeeded:
            return Written(True, answer.header.revision, None)
        found = answer.responses[0].response_range.kvs
        return Written(False, answer.header.revision, _pair(found[0]) if found else None)

    async def transact(self, writes: Sequence[Write]) -> Transacted:
        """All of `writes` when every expectation holds, else none of them."""
        request = rpc.TxnRequest()
        for one in writes:
            if one.expected is not None:
                equal = request.compare.add()
                equal.target, equal.key, equal.mod_revision = rpc.Compare.MOD, one.key, one.expected
            change = request.success.add()
            if one.value is None:
                change.request_delete_range.key = one.key
            else:
                put = change.request_put
                put.key, put.value, put.lease = one.key, one.value, one.lease
            request.failure.add().request_range.key = one.key
        first = writes[0]
        operation = "delete" if first.value is None else "update" if first.expected else "create"
        answer = await self._transaction(operation, first.key, request)
        if answer.succeeded:
            return Transacted(True, answer.header.revision, [])
        found = [one.response_range.kvs for one in answer.responses]
        return Transacted(False, answer.header.revision, [_pair(kvs[0]) if kvs else None for kvs in found])

    async def _transaction(self, operation: str, key: bytes, request: Any) -> Any:
        """Sends a transaction that looks at its keys when it is not carried out; behind a fence, on that condition as
        well. Raises EtcdFenced when that alone kept it from happening."""
        fence = FENCE.get()
        if fence is None:
            return await self._timed(operation, key, _TXN, request)
        last = request.compare.add()
        last.target, last.key, last.mod_revision = rpc.Compare.MOD, fence.key, fence.revision
        try:
            answer = await self._timed(operation, key, _TXN, request)
        except (EtcdUnavailable, asyncio.CancelledError) as error:
            fence.end(f"it is not known what became of a write: {error}")
            raise
        if not answer.succeeded and _met(request, answer):
            fence.end("another one has begun")
            raise EtcdFenced(f"this server does not lead any more: {fence}")
        return answer

    async def tick(self, key: bytes) -> int:
        """Writes a key nobody reads; answers the revision, which every watch must reach."""
        answer = await self._call(_PUT, rpc.PutRequest(key=key, value=b""))
        revision: int = answer.header.revision
        return revision

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
        await self._call(_COMPACT, rpc.CompactionRequest(revision=revision), seconds=30)

    # --- watching ----------------------------------------------------------------------------------------------------

    async def watch(
        self, start: bytes, end: bytes, since: int, *, previous: bool = False, opened: Callable[[], None] | None = None
    ) -> AsyncIterator[list[Seen]]:
        """Batches of events from revision `since` on, for ever; `opened` is called when etcd has confirmed the watch.
        Raises EtcdCompacted or EtcdUnavailable."""
        create = rpc.WatchCreateRequest(key=start, range_end=end, start_revision=since, prev_kv=previous)
        ended = asyncio.Event()

        async def requests() -> AsyncIterator[Any]:
            yield rpc.WatchRequest(create_request=create)
            await ended.wait()

        # A member cut off from the others has no news and does not know it: it is to say so instead of keeping silent.
        stream = self._member.watch.Watch(requests(), metadata=(("hasleader", "true"),))
        try:
            async for answer in stream:
                if answer.compact_revision:
                    raise EtcdCompacted(answer.compact_revision + 1)
                if answer.canceled:
                    raise EtcdUnavailable(answer.cancel_reason or "watch cancelled")
                if answer.created and opened is not None:
                    opened()
                if answer.events:
                    yield [_seen(event) for event in answer.events]
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


def _comparing(key: bytes, expected: int) -> tuple[Any, Any]:
    """A transaction that looks at what is there unless the key's last revision is `expected`, and its one change, still
    empty. Filled in place: messages made from messages are copied each time."""
    request = rpc.TxnRequest()
    equal = request.compare.add()
    equal.target, equal.key, equal.mod_revision = rpc.Compare.MOD, key, expected
    request.failure.add().request_range.key = key
    return request, request.success.add()


def _met(request: Any, answer: Any) -> bool:
    """Whether all of a transaction's conditions but the last hold, as far as its answer tells."""
    there = {pair.key: pair.mod_revision for one in answer.responses for pair in one.response_range.kvs}
    return all(there.get(one.key, 0) == one.mod_revision for one in request.compare[:-1])


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
    if error.code() in (rpc.StatusCode.UNAVAILABLE, rpc.StatusCode.DEADLINE_EXCEEDED, rpc.StatusCode.CANCELLED):
        return EtcdUnavailable(f"etcd: {details}")
    return EtcdError(f"etcd: {error.code().name}: {details}")


def _pair(pair: Any) -> KeyValue:
    return KeyValue(pair.key, pair.value, pair.mod_revision, pair.create_revision == pair.mod_revision)


def _seen(event: Any) -> Seen:
    pair = event.kv
    previous = _pair(event.prev_kv) if event.HasField("prev_kv") else None
    value = None if event.type else pair.value
    return Seen(pair.key, pair.mod_revision, value, pair.create_revision == pair.mod_revision, previous)
