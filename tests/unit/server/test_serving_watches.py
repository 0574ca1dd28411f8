"""A watch that cannot be served is closed, or it would fill up with what nobody reads."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from aiohttp import web

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.auth import UserInfo
from orca.client.clock import SystemClock
from orca.server.audit import Record
from orca.server.crowd import Crowd
from orca.server.fairness.turns import Turns
from orca.server.metrics import WatchCounts
from orca.server.negotiation import PLAIN, YAML, Form
from orca.server.options import ListOptions
from orca.server.paths import Target
from orca.server.request import Request
from orca.server.verbs.serving import ServedWatch
from orca.server.watching import serve_watch
from orca.store import watch as module
from orca.store.cache import Cache
from orca.store.entries import Entry, Event, bookmark, place
from orca.store.entries import encode as stored
from orca.store.watch import Watch
from tests.support.patience import PATIENCE
from tests.support.wire import dialled, listening, said

SIZE = 1 << 14
PLAIN_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
async def watch(cache: Cache) -> Watch:
    """Of all ConfigMaps, begun."""

    async def fresh() -> None:
        pass

    async def told(revision: int) -> None:
        pass

    one = Watch(
        CONFIGMAPS,
        cache,
        namespace="",
        name="",
        since=None,
        predicate=None,
        hint=None,
        bookmarks=False,
        initial_end=False,
        fresh=fresh,
        told=told,
    )
    await one.start()
    assert cache.bucket(CONFIGMAPS.storage).watches() == [one]
    return one


class Beginnings:
    """What an audit record hears of answers that last."""

    def __init__(self) -> None:
        self.lasts = True
        self.codes: list[int] = []

    def begun(self, code: int) -> None:
        self.codes.append(code)


async def serve(
    http: web.BaseRequest, watch: Watch, form: Form, record: Beginnings | None = None
) -> web.StreamResponse:
    request = Request(http, "GET", Target("/"), {}, "", UserInfo("u"), "id", record=cast("Record | None", record))
    options = ListOptions(timeout_seconds=30)
    return await serve_watch(request, CONFIGMAPS, watch, options, form, "", SystemClock(), WatchCounts(), Crowd())


@pytest.mark.parametrize(("asked", "form"), [(b"GET / HTTP/1.1\r\nHost: a\r\n", Form(YAML)), (UPGRADE, PLAIN)])
async def test_a_watch_that_is_refused_is_closed(cache: Cache, watch: Watch, asked: bytes, form: Form) -> None:
    """For its form, and for a WebSocket's handshake without a key."""
    refused: list[int] = []

    async def handler(http: web.BaseRequest) -> web.StreamResponse:
        try:
            return await serve(http, watch, form)
        except ApiError as error:
            refused.append(error.code)
            return web.Response(status=error.code)

    async with listening(handler) as server:
        await said(server.port, asked + b"Connection: close\r\n\r\n")
    assert refused == [406 if form.media == YAML else 400]
    assert cache.bucket(CONFIGMAPS.storage).watches() == []


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (PLAIN_GET, 200),
        (UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n", 101),
    ],
)
async def test_a_watch_says_that_it_begins(watch: Watch, asked: bytes, status: int) -> None:
    """For the audit log, which tells of the beginning before the end."""
    record = Beginnings()

    async def handler(http: web.BaseRequest) -> web.StreamResponse:
        return await serve(http, watch, PLAIN, record)

    async with listening(handler) as server, dialled(server.port) as (reader, writer):
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"%d" % status
        assert record.codes == [status]


def _change(cache: Cache, revision: int, size: int) -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}, "data": "x" * size}
    entry = Entry("n", "m", revision, None, place(stored(obj), revision))
    cache.bucket(CONFIGMAPS.storage).record(entry.key, entry, revision, 0.0)
    cache.revision = revision


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many objects of ``SIZE`` may pile up."""
    monkeypatch.setattr(module, "BUFFER_BYTES", 64 * SIZE)
    return 64


async def test_who_reads_nothing_keeps_so_many_bytes_and_no_more(cache: Cache, watch: Watch, room: int) -> None:
    revision = 0
    while not watch.ended:
        revision += 1
        _change(cache, revision, SIZE)
        assert revision < 2 * room
    assert watch.overflowed
    assert revision >= room
    assert not watch.waits


async def test_who_reads_in_time_may_be_told_any_number_of_bytes(cache: Cache, watch: Watch, room: int) -> None:
    taken, told = 0, 4 * room
    for revision in range(1, told + 1):
        _change(cache, revision, SIZE)
        if revision % (room // 2) == 0:
            while watch.waits:
                taken += len(watch.take())
    assert taken == told
    for revision in range(told + 1, told + 20 * room):
        _change(cache, revision, 10)  # many, but small
    assert not watch.ended


class _Wrapped(ServedWatch):
    """A watch whose events are made for each watcher, with many at the beginning."""

    def __init__(self, inner: Watch, count: int) -> None:
        super().__init__(inner, CONFIGMAPS)
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}}
        entries = [Entry("n", "m", number, None, place(stored(obj), number)) for number in range(1, count + 1)]
        self._events = [Event("ADDED", entry) for entry in entries]

    @property
    def bookmarks(self) -> bool:
        return True

    def mark(self) -> None:
        self._events.append(bookmark("v1", "ConfigMap", 999))

    async def batch(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken or await super().batch()


async def _beginning(watch: Watch, turns: Turns, seconds: int, until: bytes) -> bytes:
    async def handler(http: web.BaseRequest) -> web.StreamResponse:
        request = Request(http, "GET", Target("/"), {}, "", UserInfo("u"), "id", lane=turns.lane(""))
        options, form = ListOptions(timeout_seconds=seconds), Form(kind="PartialObjectMetadata")
        counts, crowd = WatchCounts(), Crowd()
        wrapped = _Wrapped(watch, 400)
        return await serve_watch(request, CONFIGMAPS, wrapped, options, form, "", SystemClock(), counts, crowd)

    async with listening(handler) as server, dialled(server.port) as (reader, writer):
        writer.write(PLAIN_GET)
        async with asyncio.timeout(PATIENCE):
            return await reader.readuntil(until)


async def test_what_a_watch_begins_with_is_made_in_turns(watch: Watch) -> None:
    turns = Turns(budget=0.0)
    await _beginning(watch, turns, 60, b'"resourceVersion":"400"')
    assert turns.waited >= 10


async def test_a_watch_whose_time_is_over_has_sent_all_that_its_last_bookmark_says(watch: Watch) -> None:
    """Also when it was waiting for its turn."""

    class Never(Turns):
        def has_room(self, now: float) -> bool:
            return False

        async def wait(self, lane: object) -> None:
            await asyncio.Event().wait()

    heard = await _beginning(watch, Never(), 1, b'"resourceVersion":"999"')
    assert heard.count(b'"ADDED"') == 400
