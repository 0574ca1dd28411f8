"""Netlink as bytes: messages, attributes, and a blocking socket that sends many requests at once.

What the messages say is the business of `netlink` (routes), of the proxy's IPVS and of its connection table.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
HEADER = struct.Struct("=IHHII")
BATCH = 64
"""Requests sent at once: what the kernel answers has to fit into the socket's buffer."""


class NetlinkError(OSError):
    """The kernel refused a request; ``errno`` says why and the text says which request it was."""


class Encodes(Protocol):
    """One message: ``what`` is for people, ``ignore`` are error numbers that mean "already so"."""

    @property
    def kind(self) -> int: ...

    @property
    def what(self) -> str: ...

    @property
    def ignore(self) -> tuple[int, ...]: ...

    def encode(self, sequence: int) -> bytes: ...


@dataclass(slots=True)
class Plain:
    """A request whose body is bytes already, for what pyroute2 has no light classes."""

    kind: int
    body: bytes
    flags: int = 0
    what: str = ""
    ignore: tuple[int, ...] = ()

    def encode(self, sequence: int) -> bytes:
        length = HEADER.size + len(self.body)
        return HEADER.pack(length, self.kind, REQUEST | ACK | self.flags, sequence, 0) + self.body


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """By number, without the flags that the kernel sets in numbers; nested ones as bytes."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(kind, sequence, body) of each message in what was received."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


class NetlinkSocket:
    """A blocking socket of the calling thread's network namespace."""

    def __init__(self, protocol: int, *, timeout: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(timeout)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def apply(self, *requests: Encodes) -> None:
        """Send all requests, in order; raises ``NetlinkError`` for the first the kernel refused, when all are done."""
        failure: NetlinkError | None = None
        for start in range(0, len(requests), BATCH):
            failure = self._apply(requests[start : start + BATCH]) or failure
        if failure:
            raise failure

    def _apply(self, requests: Sequence[Encodes]) -> NetlinkError | None:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(r.encode(first + i) for i, r in enumerate(requests)))
        failure: NetlinkError | None = None
        pending = len(requests)
        while pending:
            for kind, sequence, body in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence <= self._sequence:
                    continue
                pending -= 1
                code = -struct.unpack_from("=i", body)[0]
                request = requests[sequence - first]
                if code and code not in request.ignore and failure is None:
                    failure = NetlinkError(code, f"{request.what or request.kind}: {os.strerror(code)}")
        return failure

    def ask(self, request: Encodes) -> list[bytes]:
        """Bodies of the answers. Raises ``NetlinkError``."""
        self._sequence += 1
        self._socket.send(request.encode(self._sequence))
        answers: list[bytes] = []
        while True:
            for kind, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    return answers
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise NetlinkError(code, f"netlink request {request.what or request.kind}: {os.strerror(code)}")
                    return answers
                answers.append(body)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        return messages(self._socket.recv(1 << 18))
