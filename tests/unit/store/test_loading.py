"""What a server knows once it has begun is what etcd holds, however often it had to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from orca.api.builtin import CONFIGMAPS, SECRETS
from orca.api.errors import ApiError
from orca.client.clock import VirtualClock
from orca.store import Store
from orca.store.etcd import Etcd
from orca.store.outcomes import EtcdError, EtcdUnavailable, KeyValue, Seen


def stored(resource: str, name: str) -> KeyValue:
    value = b'{"apiVersion":"v1","kind":"X","metadata":{"name":"%b","namespace":"default"}}' % name.encode()
    return KeyValue(f"/registry/core/{resource}/default/{name}".encode(), value, 5)


class FakeEtcd(Etcd):
    """Answers one list after the other; the first time it does not take what shows how far a watch has come."""

    def __init__(self, *lists: list[KeyValue], error: EtcdError | None = None) -> None:
        super().__init__("127.0.0.1:1")
        self._lists = list(lists)
        self._error = error

    def open(self) -> None:
        pass

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, page: int = 0
    ) -> AsyncIterator[tuple[list[KeyValue], int]]:
        if self._error is not None:
            raise self._error
        yield self._lists.pop(0), 10

    async def tick(self, key: bytes) -> int:
        if self._lists:
            raise EtcdUnavailable("etcd: connection reset")
        raise EtcdError("etcd: no space, so there is no history")

    async def watch(self, *_: object, **__: object) -> AsyncIterator[list[Seen]]:  # type: ignore[override]
        raise EtcdUnavailable("not here")
        yield []

    async def revision(self, key: bytes) -> int:
        return 10


class SlowEtcd(FakeEtcd):
    """Answers each list after ``pause`` seconds, and tells nothing of what was before."""

    pause = 0.1

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, page: int = 0
    ) -> AsyncIterator[tuple[list[KeyValue], int]]:
        while self._lists:
            await asyncio.sleep(self.pause)
            yield self._lists.pop(0), 10
        if self._error is not None:
            await asyncio.sleep(60)

    async def tick(self, key: bytes) -> int:
        return 10

    async def watch(self, *_: object, **__: object) -> AsyncIterator[list[Seen]]:  # type: ignore[override]
        await asyncio.sleep(60)
        yield []


async def test_much_to_read_is_read_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orca.store.feed.RECALL_SECONDS", 0.1)
    for silence in (0.5, 5.0, 50.0):  # a machine that stands still for longer is as silent as an etcd that is
        etcd = SlowEtcd(*([stored("secrets", f"s{number}")] for number in range(8)))
        etcd.pause = silence / 5
        store = Store(etcd)
        try:
            await store.start(silence)
        except ApiError:
            continue
        assert store.count(SECRETS) == 8
        await store.close()
        return
    pytest.fail("all of it together may take as long as silence, and no longer")


async def test_silence_amid_a_list_is_not_waited_for_without_end() -> None:
    store = Store(SlowEtcd([stored("secrets", "one")], error=EtcdUnavailable("etcd: silent")))
    with pytest.raises(ApiError, match="does not answer"):
        await store.start(0.3)


async def test_what_went_between_two_tries_is_not_there() -> None:
    broken = KeyValue(b"/registry/core/secrets/default/broken", b"no json", 5)
    etcd = FakeEtcd([stored("configmaps", "gone"), broken, stored("secrets", "stays")], [stored("secrets", "stays")])
    clock = VirtualClock()
    store = Store(etcd, clock=clock)
    starting = asyncio.create_task(store.start())
    await clock.advance(1)
    await starting
    try:
        assert [entry.name for entry in (await store.list(SECRETS, resource_version="0")).entries] == ["stays"]
        assert not (await store.list(CONFIGMAPS, resource_version="0")).entries
        assert store.count(CONFIGMAPS) == 0
    finally:
        await store.close()


async def test_an_etcd_that_refuses_is_told_of() -> None:
    store = Store(FakeEtcd(error=EtcdError("etcd: PERMISSION_DENIED: etcdserver: permission denied")))
    with pytest.raises(ApiError, match="permission denied") as raised:
        await store.start()
    assert raised.value.code == 503


async def test_an_etcd_that_is_away_fills_no_log() -> None:
    store = Store(FakeEtcd(error=EtcdUnavailable("etcd: connection refused")), clock=(clock := VirtualClock()))
    with capture_logs() as told:
        starting = asyncio.create_task(store.start())
        await clock.advance(11)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    assert [one["event"] for one in told] == ["waiting for etcd"] * 3


async def test_a_watch_that_cannot_be_opened_fills_no_log() -> None:
    store = Store(FakeEtcd([]), clock=(clock := VirtualClock()))
    with capture_logs() as told:
        await store.start()
        await clock.advance(11)
    await store.close()
    assert [one["event"] for one in told].count("watch of etcd interrupted") == 3
