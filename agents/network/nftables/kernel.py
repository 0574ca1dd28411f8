"""`Kernel`: commits batches to nf_tables, reads tables back, and hears when somebody else changes one of ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

from agents.network.nftables.attributes import attributes, each_attribute, text
from agents.network.nftables.wire import DUMP, GETCHAIN, GETRULE, GETSET, GETSETELEM, GETTABLE, HEADER, Batch, message

_NETLINK_NETFILTER = 12
_ERROR, _DONE = 2, 3
_NOBODY_INTERRUPTED = 0x10
"""NLM_F_DUMP_INTR: something changed while it was read."""
_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK = 270, 1, 10, 11
_GROUP = 7
_SEND_BUFFER_FORCE, _RECEIVE_BUFFER_FORCE = 32, 33
_ATTACH_FILTER = 26


class NftablesError(OSError):
    """The kernel refused; ``errno`` says why."""


class Kernel:
    """nf_tables of the network namespace this was made in. Everything blocks, for as long as the kernel works on it.

    Not for use by two threads at once. Raises ``NftablesError`` where the kernel has none.
    """

    def __init__(self) -> None:
        self._sequence = 1
        self.commits = 0
        """How many batches were committed; the kernel counts the same way (``generation.py``)."""
        self._events: Changes | None = None
        try:
            self._socket = _open()
        except OSError as error:
            raise NftablesError(error.errno, f"nf_tables cannot be reached: {error.strerror}") from error
        self._buffer = 0

    def close(self) -> None:
        self._socket.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def commit(self, batch: Batch) -> None:
        """All of it or nothing; raises ``NftablesError``."""
        self._send(batch, commit=True)
        self.commits += bool(batch)

    def check(self, batch: Batch) -> None:
        """Have the kernel judge a batch and change nothing; raises ``NftablesError``."""
        self._send(batch, commit=False)

    # --- reading -----------------------------------------------------------------------------------------------------

    def tables(self, family: int) -> list[str]:
        return [_text(each, 1) for each in self._dump(GETTABLE, family, b"")]

    def chains(self, family: int, table: str) -> list[dict[int, bytes]]:
        return self._of_table(GETCHAIN, family, table)

    def rules(self, family: int, table: str) -> list[dict[int, bytes]]:
        """In the order of their chains."""
        return self._of_table(GETRULE, family, table)

    def sets(self, family: int, table: str) -> list[dict[int, bytes]]:
        return self._of_table(GETSET, family, table)

    def elements(self, family: int, table: str, name: str) -> list[dict[int, bytes]]:
        """The attributes of every element."""
        found = []
        for each in self._dump(GETSETELEM, family, text(1, table) + text(2, name)):
            found += [attributes(body) for _, body in each_attribute(each.get(3, b""))]
        return found

    # --- hearing of others -------------------------------------------------------------------------------------------

    def listen(self) -> int:
        """Hear of changes that other processes make from now on; the file descriptor is readable when there are."""
        if self._events is None:
            self._events = Changes(but_by=self._socket.getsockname()[0])
        return self._events.fileno()

    def others_touched(self, table: str) -> bool:
        """Whether somebody else may have changed a table of this name since the last call."""
        return self._events is not None and self._events.touched(table)

    # --- the socket --------------------------------------------------------------------------------------------------

    def _send(self, batch: Batch, *, commit: bool) -> None:
        if not batch:
            return
        data, last = batch.messages(self._sequence + 1, commit=commit)
        first, self._sequence = self._sequence + 1, last + 2
        self._make_room(len(data))
        try:
            self._socket.sendto(data, (0, 0))
        except OSError as error:
            raise NftablesError(error.errno, f"nf_tables: {error.strerror}") from error
        # The kernel has done it all when the call returns; its answers are waiting.
        failure: NftablesError | None = None
        acknowledged = False
        for sequence, kind, body in self._answers():
            if kind != _ERROR or not first <= sequence <= last + 1:
                continue
            number = -struct.unpack_from("=i", body)[0]
            acknowledged = acknowledged or sequence == last
            if number and failure is None:
                failure = NftablesError(number, f"nf_tables: {os.strerror(number)}{_explained(body)}")
        if failure is None and not acknowledged:
            failure = NftablesError(errno.EIO, "nf_tables: the kernel has not answered")
        if failure is not None:
            raise failure

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            try:
                data = self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise NftablesError(error.errno, f"nf_tables: {error.strerror}") from error
            yield from _messages(data)

    def _make_room(self, size: int) -> None:
        """A batch is one message to the socket, however large."""
        if size * 2 > self._buffer:
            self._buffer = max(size * 2, 1 << 18)
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SEND_BUFFER_FORCE, self._buffer)
            except OSError as error:
                raise NftablesError(error.errno, f"nf_tables: no room for {size} bytes: {error.strerror}") from error

    def _of_table(self, kind: int, family: int, table: str) -> list[dict[int, bytes]]:
        return [each for each in self._dump(kind, family, text(1, table)) if _text(each, 1) == table]

    def _dump(self, kind: int, family: int, body: bytes) -> list[dict[int, bytes]]:
        for _ in range(10):
            try:
                return self._dump_once(kind, family, body)
            except InterruptedError:
                continue
        raise NftablesError(errno.EAGAIN, "nf_tables change faster than they can be read")

    def _dump_once(self, kind: int, family: int, body: bytes) -> list[dict[int, bytes]]:
        self._sequence += 1
        self._socket.sendto(message(kind, family, DUMP, self._sequence, body), (0, 0))
        found: list[dict[int, bytes]] = []
        interrupted = False
        while True:
            for sequence, number, data, flags in _messages_with_flags(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & _NOBODY_INTERRUPTED)
                if number == _DONE:
                    if interrupted:
                        raise InterruptedError
                    return found
                if number == _ERROR:
                    code = -struct.unpack_from("=i", data)[0]
                    if code == errno.ENOENT:
                        return []
                    raise NftablesError(code, f"nf_tables cannot be read: {os.strerror(code)}")
                found.append(attributes(data[4:]))


class Changes:
    """Hears of every change of nf_tables from now on, except those made through the socket of the number ``but_by``.
    Raises OSError."""

    def __init__(self, *, but_by: int = 0) -> None:
        self._socket = _open()
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, 1 << 20)
        if but_by:
            _drop_own(self._socket, but_by)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        self._loop: asyncio.AbstractEventLoop | None = None

    def fileno(self) -> int:
        """Readable when there are any."""
        return self._socket.fileno()

    def call(self, wake: Callable[[], None], *tables: str) -> None:
        """From now on have ``wake`` called, in the running event loop, when a table of one of these names may have
        changed."""

        def look() -> None:
            # All of it is read here: what stayed would call us again at once.
            if self.touched(*tables):
                wake()

        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.fileno(), look)

    def close(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.fileno())
        self._loop = None
        self._socket.close()

    def touched(self, *tables: str) -> bool:
        """Whether a table of one of these names may have changed since the last call."""
        names = [table.encode() + b"\0" for table in tables]
        touched = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return touched
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                data = names[0]  # More than was kept for us: it may have been in what is lost.
            touched = touched or any(name in data for name in names)


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    # The kernel's own timeout: with Python's, a look whether there is more would wait as well.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 30, 0))
    opened.bind((0, 0))
    for option in (_CAP_ACK, _EXT_ACK):
        with contextlib.suppress(OSError):
            opened.setsockopt(_SOL_NETLINK, option, 1)
    return opened


def _drop_own(events: socket.socket, own: int) -> None:
    """Have the kernel not tell us what we did ourselves: a filter on the sender's port, twelve bytes into a message."""
    program = (
        (0x20, 0, 0, 12),  # load the word
        (0x15, 0, 1, socket.htonl(own)),  # ours?
        (0x06, 0, 0, 0),  # nothing of it
        (0x06, 0, 0, 0xFFFFFFFF),  # all of it
    )
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    import ctypes

    memory = ctypes.create_string_buffer(code)
    events.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(memory)))


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    for sequence, kind, body, _ in _messages_with_flags(data):
        yield sequence, kind, body


def _messages_with_flags(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            return
        yield sequence, kind, data[offset + HEADER.size : offset + length], flags
        offset += (length + 3) & ~3


def _explained(body: bytes) -> str:
    """What the kernel says beyond the number."""
    said = attributes(body[20:]).get(1, b"") if len(body) > 20 else b""
    return f" ({said.rstrip(bytes(1)).decode(errors='replace')})" if said else ""


def _text(found: dict[int, bytes], kind: int) -> str:
    return found.get(kind, b"").split(b"\0", 1)[0].decode(errors="replace")
