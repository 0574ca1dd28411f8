"""The gRPC health check, spoken directly: one unary call over HTTP/2 with prior knowledge, without a gRPC library.

Spec: RFC 9113 (frames), RFC 7541 (HPACK, literals without indexing only) and grpc.health.v1.Health/Check.
"""

from __future__ import annotations

import asyncio
import struct

from agents.probes.outcome import Outcome
from orca.api.durations import format_duration
from orca.api.objects import Obj

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_LARGEST_FRAME = 1 << 20
_RECONNECT_SECONDS = 1.0


async def check(address: str, action: Obj, seconds: float) -> Outcome:
    """Ask ``grpc.health.v1.Health/Check``, for at most `seconds`; SERVING is success."""
    port, service = int(action["port"]), action.get("service") or ""
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    until = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(until):
            reader, writer = await _connect(address, port)
    except TimeoutError:
        why = f"within {format_duration(seconds)}: context deadline exceeded"
        return Outcome(False, f'timeout: failed to connect service "{where}" {why}')
    try:
        async with asyncio.timeout_at(until):
            writer.write(_request(where, service))
            state = await _answer(reader, writer)
    except TimeoutError:
        return Outcome(False, f"timeout: health rpc did not complete within {format_duration(seconds)}")
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        return Outcome(False, f"error: health rpc probe failed: {error}")
    finally:
        writer.close()
    if state == "SERVING":
        return Outcome(True)
    return Outcome(False, f'service unhealthy (responded with "{state}")')


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose other end has begun to speak HTTP/2; tries, as gRPC's clients do, until it is cancelled."""
    while True:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(_PREFACE + _frame(_SETTINGS, 0, 0))
            head = await reader.readexactly(9)
            if head[3] == _SETTINGS:
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                writer.write(_frame(_SETTINGS, _ACK, 0))
                return reader, writer
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            if writer is not None:
                writer.close()
            raise
        if writer is not None:
            writer.close()
        await asyncio.sleep(_RECONNECT_SECONDS)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    """Literal header field without indexing, new name, no Huffman coding."""
    if len(name) > 126 or len(value) > 126:
        raise ValueError("header too long")
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def _request(authority: str, service: str) -> bytes:
    headers = b"".join(
        _literal(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", "kube-probe/1.36"),
            ("te", "trailers"),
        )
    )
    raw = service.encode()
    if len(raw) > 127:
        raise ValueError("service name too long")
    message = b"\x0a" + bytes((len(raw),)) + raw if raw else b""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return _frame(_HEADERS, _END_HEADERS, 1, headers) + _frame(_DATA, _END_STREAM, 1, body)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The serving status; trailers without a message mean the service is not implemented or unknown."""
    body = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        if length > _LARGEST_FRAME:
            raise ValueError("frame too large")
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind in (_RESET, _GOAWAY):
            raise ValueError("stream was reset by the server")
        elif kind == _DATA:
            body += payload
            if len(body) >= 5:
                size = struct.unpack(">I", body[1:5])[0]
                if len(body) >= 5 + size:
                    return _STATES.get(_status(body[5 : 5 + size]), "UNKNOWN")
        elif kind == _HEADERS and flags & _END_STREAM:
            raise ValueError("the server answered without a health status (not implemented or unknown service)")


def _status(message: bytes) -> int:
    """Field 1 (varint) of HealthCheckResponse; the default 0 is not sent."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
