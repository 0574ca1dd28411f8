"""Writes that share a transaction come out as they would alone, each with a revision of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from aetcd import rpc
from hypothesis import given
from hypothesis import strategies as st

from orca.client.clock import VirtualClock
from orca.store import commits, revisions
from orca.store.commits import Commits, pair_of
from orca.store.etcd import Etcd
from orca.store.fence import Fence, behind
from orca.store.leases import Leases
from orca.store.outcomes import EtcdError, EtcdFenced, EtcdUnavailable, Transacted, Write


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class FakeEtcd:
    """What etcd's documentation says of transactions; ``told`` is what a watch of everything would hear."""

    revision: int = 1
    stored: dict[bytes, Any] = field(default_factory=dict)
    told: list[tuple[bytes, int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # of transactions, in writes
    refuses: bytes = b""  # a transaction that writes this value
    silent: bool = False
    asked: int = 0
    held: asyncio.Event = field(default_factory=_set)

    async def send(self, request: Any) -> Any:
        self.asked += 1
        await self.held.wait()
        await asyncio.sleep(0)
        if self.silent:
            raise EtcdUnavailable("no answer")
        parts = [one.request_txn for one in request.success if one.HasField("request_txn")] or [request]
        puts = [one.request_put for part in parts for one in part.success if one.HasField("request_put")]
        if any(put.value.strip() == self.refuses for put in puts):
            raise EtcdError("etcdserver: refused")
        keys = [put.key for put in puts]
        assert len(keys) == len(set(keys)), "duplicate key given in txn request"
        self.sizes.append(sum(len(part.success) for part in parts))
        answer = rpc.TxnResponse(succeeded=True)
        before, order = len(self.told), revisions.Order()
        for part in parts:
            self._run(part, answer if part is request else answer.responses.add().response_txn, order)
        if len(self.told) > before:
            self.revision += 1
        answer.header.revision = self.revision
        return answer

    def _run(self, part: Any, answer: Any, order: revisions.Order) -> None:
        held = {key: pair.mod_revision for key, pair in self.stored.items()}
        now = self.revision + 1
        answer.succeeded = all(held.get(one.key, 0) == one.mod_revision for one in part.compare)
        for one in part.success if answer.succeeded else part.failure:
            response = answer.responses.add()
            if one.HasField("request_put"):
                put = one.request_put
                created = self.stored[put.key].create_revision if put.key in self.stored else now
                pair = rpc.KeyValue(key=put.key, value=put.value, mod_revision=now, create_revision=created)
                self.stored[put.key] = pair
                response.response_put.SetInParent()
                self.told.append((put.key, order.put(now, revisions.taken(put.value)[1])))
            elif one.HasField("request_delete_range"):
                key = one.request_delete_range.key
                response.response_delete_range.deleted = int(self.stored.pop(key, None) is not None)
                if response.response_delete_range.deleted:
                    self.told.append((key, order.deleted(now)))
            else:
                response.response_range.SetInParent()
                if one.request_range.key in self.stored:
                    response.response_range.kvs.append(self.stored[one.request_range.key])


async def together(etcd: FakeEtcd, groups: list[list[Write]]) -> list[Transacted]:
    made = Commits(etcd.send)
    return await asyncio.gather(*(made.commit(group) for group in groups))


KEYS = st.sampled_from([b"/a", b"/b", b"/c", b"/d", b"/e"])
VALUES = st.none() | st.just(b"{}") | st.just(b'{"a": 1}')
GIVEN = list[tuple[bytes, bytes | None, bool]]
GROUPS = st.lists(
    st.lists(st.tuples(KEYS, VALUES, st.booleans()), min_size=1, max_size=3, unique_by=lambda one: one[0]), max_size=40
)


@given(st.lists(GROUPS, max_size=4))
def test_every_write_has_its_own_outcome_and_revision(
    moments: list[list[GIVEN]],
) -> None:
    etcd = FakeEtcd()
    for moment in moments:
        there = {key: pair_of(pair).revision for key, pair in etcd.stored.items()}
        groups = [[Write(key, value, there.get(key, 0) if right else 7) for key, value, right in one] for one in moment]
        began = len(etcd.told)
        outcomes = asyncio.run(together(etcd, groups))
        told = etcd.told[began:]
        numbers = [revision for _, revision in told]
        assert numbers == sorted(set(numbers)), "two changes share a revision, or go back"
        for group, outcome in zip(groups, outcomes, strict=True):
            if not outcome.won:
                assert len(outcome.current) == len(group)
            elif group[0].value is not None:
                assert (group[0].key, outcome.revision) in told
        for key, pair in etcd.stored.items():
            found = pair_of(pair)
            assert found.value in (b"{}", b'{"a": 1}'), "blanks are ours, not the reader's"
            if key in {name for name, _ in told}:
                assert found.revision == max(revision for name, revision in told if name == key)


async def test_writes_of_a_moment_share_a_transaction() -> None:
    etcd = FakeEtcd()
    outcomes = await together(etcd, [[Write(b"/%d" % number, b"{}", 0)] for number in range(70)])
    assert etcd.sizes == [32, 32, 6]
    assert len({one.revision for one in outcomes}) == 70
    assert [one.revision for one in outcomes] == sorted(one.revision for one in outcomes)


async def test_writes_of_requests_that_take_turns_share_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", 60)  # however long a turn takes
    etcd = FakeEtcd()
    made = Commits(etcd.send)

    async def request(turn: int) -> Transacted:
        for _ in range(turn):
            await asyncio.sleep(0)
        return await made.commit([Write(b"/%d" % turn, b"{}", 0)])

    assert all(one.won for one in await asyncio.gather(*map(request, range(10))))
    assert etcd.sizes == [10]


async def test_steady_writes_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", 0)
    etcd = FakeEtcd()
    made = Commits(etcd.send)
    tasks = []
    for number in range(10):
        tasks.append(asyncio.create_task(made.commit([Write(b"/%d" % number, b"{}", 0)])))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(etcd.sizes) > 1


async def test_writes_wait_for_the_transaction_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", 60)
    etcd = FakeEtcd(held=asyncio.Event())
    made = Commits(etcd.send)
    tasks = []
    for number in range(4):  # one after another, in turns of the loop of their own
        tasks.append(asyncio.create_task(made.commit([Write(b"/%d" % number, b"{}", 0)])))
        for _ in range(3):
            await asyncio.sleep(0)
    assert etcd.asked == 1
    etcd.held.set()
    assert all(one.won for one in await asyncio.gather(*tasks))
    assert etcd.sizes == [1, 3]


async def test_writes_do_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", 0.001)
    etcd = FakeEtcd(held=asyncio.Event())
    made = Commits(etcd.send)
    first = asyncio.create_task(made.commit([Write(b"/first", b"{}", 0)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(made.commit([Write(b"/second", b"{}", 0)]))
    while etcd.asked < 2:  # noqa: ASYNC110 - a timer of the loop's
        await asyncio.sleep(0.001)
    assert not first.done()
    etcd.held.set()
    assert (await first).won
    assert (await second).won


async def test_a_fence_stops_only_those_behind_it() -> None:
    etcd = FakeEtcd()
    made = Commits(etcd.send)
    term = await made.commit([Write(b"/term", b"{}", None)])
    fence = Fence(b"/term", term.revision)
    with behind(fence):
        led = await made.commit([Write(b"/led", b"{}", 0)])
    await made.commit([Write(b"/term", b"{}", None)])
    free = asyncio.create_task(made.commit([Write(b"/free", b"{}", 0)]))
    with behind(fence):
        late = asyncio.create_task(made.commit([Write(b"/late", b"{}", 0)]))
        lost = asyncio.create_task(made.commit([Write(b"/led", b"{}", 7)]))
    with pytest.raises(EtcdFenced):
        await late
    assert led.won
    assert (await free).won
    assert not (await lost).won
    assert fence.why
    assert etcd.sizes[-1] == 3


async def test_nothing_is_written_once_a_term_is_known_to_be_over() -> None:
    """Who got no answer may try again before the leader's work is cancelled: the first try may have happened."""
    etcd = FakeEtcd(silent=True)
    made = Commits(etcd.send)
    fence = Fence(b"/term", 0)  # as etcd has it

    async def work() -> None:
        with pytest.raises(EtcdUnavailable):
            await made.commit([Write(b"/first", b"{}", 0)])
        etcd.silent = False
        with pytest.raises(EtcdFenced):
            await made.commit([Write(b"/second", b"{}", 0)])

    with behind(fence):
        led = asyncio.create_task(work())
    await led
    assert etcd.stored == {}
    assert (await made.commit([Write(b"/of-a-client", b"{}", 0)])).won


async def test_large_values_do_not_share() -> None:
    etcd = FakeEtcd()
    large = b'"' + b"x" * (commits.BYTES // 2) + b'"'
    await together(etcd, [[Write(b"/%d" % number, large, 0)] for number in range(3)])
    assert etcd.sizes == [1, 1, 1]


async def test_a_key_is_written_once_in_each() -> None:
    etcd = FakeEtcd()
    first, second = await together(etcd, [[Write(b"/a", b"{}", 0)], [Write(b"/a", b"[]", 0)]])
    assert etcd.sizes[0] == 1
    assert first.won
    assert not second.won
    assert second.current[0] is not None
    assert second.current[0].revision == first.revision


async def test_one_that_is_refused_harms_no_other() -> None:
    etcd = FakeEtcd(refuses=b"bad")
    made = Commits(etcd.send)
    groups = [[Write(b"/a", b"{}", 0)], [Write(b"/b", b"bad", 0)], [Write(b"/c", b"{}", 0)]]
    good, bad, other = await asyncio.gather(*(made.commit(one) for one in groups), return_exceptions=True)
    assert isinstance(bad, EtcdError)
    assert isinstance(good, Transacted)
    assert isinstance(other, Transacted)
    assert good.won
    assert other.won


async def test_silence_is_told_to_all() -> None:
    made = Commits(FakeEtcd(silent=True).send)
    found = await asyncio.gather(
        made.commit([Write(b"/a", b"{}", 0)]), made.commit([Write(b"/b", b"{}", 0)]), return_exceptions=True
    )
    assert [type(one) for one in found] == [EtcdUnavailable, EtcdUnavailable]


async def test_who_gave_up_before_it_was_sent_writes_nothing() -> None:
    etcd = FakeEtcd()
    made = Commits(etcd.send)
    task = asyncio.create_task(made.commit([Write(b"/a", b"{}", 0)]))
    other = asyncio.create_task(made.commit([Write(b"/b", b"{}", 0)]))
    await asyncio.sleep(0)
    task.cancel()
    assert (await other).won
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(etcd.stored) <= {b"/a", b"/b"}


async def test_who_gave_up_is_not_tried_again_alone() -> None:
    etcd = FakeEtcd(refuses=b"bad", held=asyncio.Event())
    made = Commits(etcd.send)
    groups = [[Write(b"/a", b"{}", 0)], [Write(b"/b", b"bad", 0)], [Write(b"/c", b"{}", 0)]]
    first, bad, last = [asyncio.create_task(made.commit(one)) for one in groups]
    while not etcd.asked:  # noqa: ASYNC110 - turns of the loop
        await asyncio.sleep(0)
    first.cancel()
    etcd.held.set()
    assert (await last).won
    await asyncio.wait({first, bad})
    assert set(etcd.stored) == {b"/c"}


@pytest.mark.parametrize(
    ("code", "details", "known"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", False),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", False),
        (grpc.StatusCode.UNKNOWN, "Stream removed", False),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", True),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large", True),
    ],
)
async def test_only_what_etcd_refused_is_tried_again(code: grpc.StatusCode, details: str, known: bool) -> None:
    """A connection that breaks, however gRPC names it, tells nothing of what was written: a second try would find the
    first in its way."""
    sent: list[Any] = []

    async def txn(request: Any, timeout: float) -> Any:
        sent.append(request)
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

    etcd = Etcd("127.0.0.1:1")
    etcd._members = SimpleNamespace(pick=lambda: SimpleNamespace(kv=SimpleNamespace(Txn=txn)))  # type: ignore[assignment]
    fence = Fence(b"/term", revisions.at(1))
    with behind(fence):
        led = asyncio.create_task(etcd.put(b"/led", b"{}", 0))
    found = await asyncio.gather(led, etcd.put(b"/a", b"{}", 0), return_exceptions=True)
    assert [isinstance(one, EtcdUnavailable) for one in found] == [not known] * 2
    assert len(sent) == (3 if known else 1)
    assert bool(fence.why) is not known


def test_blanks_tell_the_place() -> None:
    for place in (0, 1, 31, 127):
        assert revisions.taken(revisions.placed(b'{"a":" "}', place)) == (b'{"a":" "}', place)
    assert revisions.placed(b"{}", 2000) == revisions.placed(b"{}", 1023)


def test_no_revision_reaches_into_the_next_transaction() -> None:
    order = revisions.Order()
    numbers = [order.deleted(5) for _ in range(revisions.PLACES + 10)]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == revisions.PLACES
    assert numbers[-1] == revisions.through(5) < order.deleted(6)


async def test_as_many_changes_as_etcd_takes_at_once_have_revisions_of_their_own() -> None:
    etcd = FakeEtcd()
    outcomes = await together(etcd, [[Write(b"/%d" % number, b"{}", 0) for number in range(128)]])
    assert outcomes[0].won
    numbers = [revision for _, revision in etcd.told]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 128


async def test_no_more_objects_share_a_lease_than_may_end_at_once() -> None:
    granted: list[int] = []

    async def grant(seconds: int) -> int:
        granted.append(seconds)
        return len(granted)

    leases = Leases(SimpleNamespace(grant=grant), VirtualClock())  # type: ignore[arg-type]
    given = [await leases.lease(3600) for _ in range(revisions.PLACES + 1)]
    assert given == [1] * revisions.PLACES + [2]
