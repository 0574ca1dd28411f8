"""Frames of HTTP/2 (RFC 9113) as bytes, its numbers, and gRPC's errors."""

from __future__ import annotations

from urllib.parse import unquote

from orca.store.wire.errors import Code, RpcError

DATA, HEADERS, _PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
SET_TABLE_SIZE, SET_ENABLE_PUSH, SET_STREAMS, SET_WINDOW, SET_FRAME_SIZE = 1, 2, 3, 4, 5
NO_ERROR, REFUSED, CANCEL = 0, 7, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIRST_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
CREDIT_FROM = 1 << 28
"""Bytes received after which the sender is told that it may send as many again."""
LAST_STREAM = 2**31 - 1
FRAME_SIZE = 16_384
LARGEST_HEADERS = 1 << 20


Headers = dict[str, str]


class Broken(Exception):
    """The other side does not keep to the protocol."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame; the payload must not be longer than the other side takes."""
    return b"%b%c%c%b%b" % (len(payload).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), payload)


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a frame carries. Raises Broken."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken("more padding than there is")
    return payload[1 : len(payload) - payload[0]]


def status_of(http: str, headers: Headers) -> RpcError | None:
    """The error that trailers tell, None when all is well."""
    told = headers.get("grpc-status", "")
    if told == "0":
        return None
    details = unquote(headers.get("grpc-message", ""))
    if told.isascii() and told.isdigit():
        return RpcError(_code(int(told)), details)
    return RpcError(Code.UNAVAILABLE, f"no gRPC is spoken there: HTTP status {http}")


def _code(number: int) -> Code:
    return Code(number) if number in Code._value2member_map_ else Code.UNKNOWN
