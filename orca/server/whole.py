"""Answers that are known as a whole before their first byte leaves."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import HttpVersion11


class WholeResponse(web.Response):
    """A response that is there as a whole: head and body leave in one piece, past the library's way of making heads,
    which costs as much as encrypting the answer."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it. What is not the rule (HEAD, old versions, connections to be closed) goes the library's way."""
        body = self.body
        if (
            self.prepared
            or self.keep_alive is False
            or not request.keep_alive
            or request.version != HttpVersion11
            or request.method == "HEAD"
            or not isinstance(body, bytes)
        ):
            return await super().prepare(request)
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        if fields.count("\n") != len(self.headers):
            raise ValueError("a header of an answer has more than one line")
        head = (
            f"HTTP/1.1 {self.status} {self.reason}\r\n{fields}"
            f"Date: {rfc822_formatted_time()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone away")
        transport.write(head.encode() + body)
        # As the library marks an answer that is out: its ``write_eof`` finds nothing left to do.
        self._eof_sent = self._keep_alive = True
        if request.protocol.writing_paused:
            await request.protocol._drain_helper()
        return None
