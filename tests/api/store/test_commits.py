"""What a real etcd makes of writes that share a transaction is what ``tests/unit/store/test_commits.py`` believes."""

from __future__ import annotations

import asyncio

import pytest

from orca.store import revisions
from orca.store.etcd import Etcd, end_of
from orca.store.outcomes import EtcdCompacted, EtcdError, KeyValue, Transacted, Write
from tests.support.etcd import PrivateEtcd

PREFIX = b"/registry/shared/"


async def test_shared_transactions(etcd: PrivateEtcd) -> None:
    connection = Etcd(etcd.endpoint)
    connection.open()
    try:
        since = await connection.revision(PREFIX) + 1
        for number in range(3):
            await connection.put(PREFIX + b"old-%d" % number, b"{}", 0)
        old = [found.revision for found, _ in [await connection.get(PREFIX + b"old-%d" % n) for n in range(3)] if found]
        told: dict[bytes, int] = {}

        async def write(writes: list[Write]) -> Transacted:
            done = await connection.transact(writes)
            if done.won:
                told[writes[0].key] = done.revision
            return done

        outcomes = await asyncio.gather(
            write([Write(PREFIX + b"a", b'{"a": 1}', 0)]),
            write([Write(PREFIX + b"old-0", None, old[0])]),
            write([Write(PREFIX + b"old-1", b"[]", 0)]),  # it is there
            write(
                [
                    Write(PREFIX + b"b", b"{}", 0),
                    Write(PREFIX + b"old-2", None, old[2]),
                    Write(PREFIX + b"no", None, None),
                ]
            ),
            write([Write(PREFIX + b"leased", b"{}", 0, 4711)]),  # there is no such lease
            write([Write(PREFIX + b"old-1", b"{}", old[1])]),
            write([Write(PREFIX + b"c", b"{}", 0)]),
            return_exceptions=True,
        )
        assert [one.won for one in outcomes if isinstance(one, Transacted)] == [True, True, False, True, True, True]
        assert isinstance(outcomes[4], EtcdError)
        assert "lease not found" in str(outcomes[4])
        many = [write([Write(PREFIX + b"many-%d" % number, b"{}", 0)]) for number in range(80)]
        await asyncio.gather(*many)
        assert len({revisions.transaction_of(told[PREFIX + b"many-%d" % number]) for number in range(80)}) < 8

        seen: list[tuple[bytes, int]] = []
        async for batch in connection.watch(PREFIX, end_of(PREFIX), since):
            seen += [(one.key, one.revision) for one in batch]
            if seen[-1][1] >= max(told.values()):
                break
        numbers = [revision for _, revision in seen]
        assert numbers == sorted(set(numbers))
        assert told.items() <= dict(seen).items()
        async for pairs, at in connection.pages(PREFIX, end_of(PREFIX)):
            assert {pair.key: pair.revision for pair in pairs} == {
                key: dict(seen)[key] for key in {key for key, _ in seen} - {PREFIX + b"old-0", PREFIX + b"old-2"}
            }
            assert at == revisions.complete(at) >= numbers[-1]

        # From the middle of a transaction, and the state there.
        middle = told[PREFIX + b"many-10"]
        async for batch in connection.watch(PREFIX, end_of(PREFIX), middle):
            assert batch[0].revision == middle
            break
        async for pairs, _ in connection.pages(PREFIX, end_of(PREFIX), middle):
            assert max(pair.revision for pair in pairs) == middle

        # What was deleted after that revision was there, and what was made after it was not.
        gone, _ = await connection.get(PREFIX + b"many-5")
        assert gone
        groups = [
            [Write(PREFIX + b"first", b"{}", 0)],
            [Write(gone.key, None, gone.revision)],
            [Write(PREFIX + b"last", b"{}", 0)],
        ]
        first, deleted, last = [done.revision for done in await asyncio.gather(*map(write, groups))]
        assert last - first == 2
        names = {gone.key, PREFIX + b"first", PREFIX + b"last"}
        for revision, there in ((first, names - {PREFIX + b"last"}), (deleted, {PREFIX + b"first"})):
            listed: list[KeyValue] = []
            async for pairs, _ in connection.pages(PREFIX, end_of(PREFIX), revision, 10):
                listed += pairs
            assert {pair.key for pair in listed} & names == there
            assert [pair.key for pair in listed] == sorted(pair.key for pair in listed)
            assert gone in listed or gone.key not in there
            assert await connection.count(PREFIX, end_of(PREFIX), revision) == len(listed)
        with pytest.raises(EtcdCompacted):  # etcd begins with its revision 1; 0 means the newest to it
            await connection.count(PREFIX, end_of(PREFIX), 5)
        with pytest.raises(EtcdCompacted):
            await anext(connection.pages(PREFIX, end_of(PREFIX), 5))
    finally:
        await connection.close()
