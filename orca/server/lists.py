"""Long lists, sent a piece at a time; those of objects that are encoded already are made so, too."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from operator import attrgetter

import orjson
from aiohttp import web

from orca.api.objects import Obj
from orca.server.connection import connection_of
from orca.server.fairness.portions import portions
from orca.server.fairness.turns import Lane
from orca.server.packing import GZIP_LEVEL, PACKER, WBITS
from orca.server.responses import ANSWERING, warning_header
from orca.store import Entry

PIECE = 6 * 16 * 1024
"""Bytes written at a time: as many as fill records of TLS, and few enough to stay in a core's cache on their way."""
WHOLE = 256 * 1024
"""Bytes up to which a list leaves as other answers do: in pieces its head would cost more than the memory is worth."""
_BATCH = 10
"""Pieces compressed at a time: some milliseconds of a thread, beside which handing them over is nothing."""
_LIST_END = b"]}\n"
_SIZE: attrgetter[int] = attrgetter("size")
_PARTS: attrgetter[tuple[bytes, ...]] = attrgetter("parts")


class ListBody:
    """A List around objects that are encoded already: its size without making it, then pieces of it."""

    def __init__(
        self,
        api_version: str,
        kind: str,
        entries: Sequence[Entry],
        *,
        revision: int,
        continue_: str,
        remaining: int | None,
    ) -> None:
        metadata: Obj = {"resourceVersion": str(revision)}
        if continue_:
            metadata["continue"] = continue_
            if remaining is not None:
                metadata["remainingItemCount"] = remaining
        self._head = b'{"kind":"%s","apiVersion":"%s","metadata":%s,"items":[' % (
            kind.encode(),
            api_version.encode(),
            orjson.dumps(metadata),
        )
        self._entries = entries
        self._ends = list(accumulate(map(_SIZE, entries)))  # bytes up to the end of each, without commas
        objects = self._ends[-1] + len(entries) - 1 if entries else 0
        self.size = len(self._head) + objects + len(_LIST_END)

    def __repr__(self) -> str:
        return f"<ListBody of {len(self._entries)}, {self.size} bytes>"

    def pieces(self, about: int = PIECE) -> Iterator[bytes]:
        """The body, a piece at a time: a list of all pods is many megabytes, and several may be asked for at once."""
        entries, ends = self._entries, self._ends
        first, done = 0, 0
        held = [self._head]
        while first < len(entries):
            last = max(first + 1, bisect_right(ends, done + about, first))
            # What they point to is all over the memory, so it is fetched by one look at all of them.
            for parts in list(map(_PARTS, entries[first:last])):
                held += parts
                held.append(b",")
            if last == len(entries):
                held[-1] = _LIST_END
            yield b"".join(held)
            held = []
            first, done = last, ends[last - 1]
        if not entries:
            yield self._head + _LIST_END

    def whole(self) -> bytes:
        """The body."""
        return next(self.pieces(self.size))

    async def changed(self, change: Callable[[Obj], Obj], lane: Lane) -> bytes:
        """The body of a list of what ``change`` makes of the objects, made in turns."""
        parts = []
        for some in portions(self._entries):
            await lane.turn()
            parts.append(orjson.dumps([change(orjson.loads(entry.raw)) for entry in some])[1:-1])
        return b"".join([self._head, b",".join(parts), _LIST_END])


class MadeBody:
    """A list in another form, in parts that are made already: joined, it would need as much memory again, and new."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self.size = sum(map(len, parts))

    def __repr__(self) -> str:
        return f"<MadeBody of {self.size} bytes>"

    def pieces(self) -> Iterator[bytes]:
        """The body, a piece at a time."""
        held: list[bytes] = []
        room = PIECE
        for part in self._parts:
            if held and len(part) > room:
                yield b"".join(held)
                held, room = [], PIECE
            held.append(part)
            room -= len(part)
        yield b"".join(held)

    def whole(self) -> bytes:
        """The body."""
        return b"".join(self._parts)


Body = ListBody | MadeBody


async def send_pieces(
    http: web.BaseRequest, body: Body, media: str, audit_id: str, lane: Lane, warning: str = ""
) -> web.StreamResponse:
    """A long answer, made and written as fast as the client takes it and others leave time."""
    response = web.StreamResponse(headers=_headers(media, audit_id, warning))
    response.content_length = body.size
    http[ANSWERING] = True
    await response.prepare(http)
    connection = connection_of(http)
    pieces = body.pieces()
    await response.write(next(pieces))  # the library sends the head with it
    for piece in pieces:
        if not lane.has_room():
            await lane.wait()
        connection.write(piece)
        if connection.writing_paused:
            await connection.drained()
    await response.write_eof()
    return response


async def send_packed(
    http: web.BaseRequest, body: Body, media: str, audit_id: str, lane: Lane, warning: str = ""
) -> web.StreamResponse:
    """The same, compressed. Never more of it than a batch is in memory; a thread packs it while others are served."""
    headers = {**_headers(media, audit_id, warning), "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    http[ANSWERING] = True
    await response.prepare(http)
    packer = zlib.compressobj(GZIP_LEVEL, wbits=WBITS)
    pieces = body.pieces()

    def packed(batch: list[bytes]) -> bytes:
        return b"".join([packer.compress(piece) for piece in batch])

    while batch := list(islice(pieces, _BATCH)):
        await response.write(await PACKER.run(lane, partial(packed, batch)))
        if not lane.has_room():
            await lane.wait()
    await response.write_eof(packer.flush())
    return response


def _headers(media: str, audit_id: str, warning: str) -> dict[str, str]:
    headers = {"Content-Type": media, "Cache-Control": "no-cache, private", "Audit-Id": audit_id}
    return headers | {"Warning": warning_header(warning)} if warning else headers
