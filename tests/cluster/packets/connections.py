"""Makes connections from namespaces and serves in them: one thread, any number at once.

A socket belongs to the namespace its maker was in; so one process speaks for all places, and what passes between them
are real packets all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agents.network.netlink import CLONE_NEWNET

SCTP = 132
_KINDS = {"TCP": (socket.SOCK_STREAM, 0), "UDP": (socket.SOCK_DGRAM, 0), "SCTP": (socket.SOCK_STREAM, SCTP)}
_AT_ONCE = 400
_SENDS = 4
"""Datagrams of one UDP attempt, as any client of UDP would: the same flow, so the same endpoint."""
_source_ports = itertools.count(10001)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Attempt:
    """One connection: ``outcome`` is "<server> <source address>", "refused", "dropped" or what else went wrong."""

    netns: str
    protocol: str
    address: str
    port: int
    timeout: float
    outcome: str = ""
    tag: object = None
    deadline: float = 0.0
    again: float = 0.0
    """When to send the datagram once more: one that is lost on a full queue says nothing about rules."""
    sent: int = 0
    """Datagrams: more than one where nobody answered the first in time."""
    received: bytes = field(default=b"", repr=False)


class Places:
    """Namespaces the calling thread goes into, and back home at the end; it stays where it is until it has to move."""

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._open: dict[str, int] = {}
        self._now = ""

    def __enter__(self) -> Places:
        return self

    def enter(self, netns: str) -> None:
        if netns != self._now:
            if netns not in self._open:
                self._open[netns] = os.open(f"/run/netns/{netns}", os.O_RDONLY)
            self._go(self._open[netns])
            self._now = netns

    @staticmethod
    def _go(descriptor: int) -> None:
        if _libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter a network namespace")

    def __exit__(self, *_: object) -> None:
        self._go(self._home)
        for descriptor in (self._home, *self._open.values()):
            os.close(descriptor)


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, *_KINDS["SCTP"]).close()
    except OSError:
        return False
    return True


def make_all(attempts: Iterable[Attempt]) -> None:
    """Try all; so many at once that those nobody answers cost little."""
    waiting = iter(attempts)
    with Places() as places, selectors.DefaultSelector() as selector:
        open_now: dict[socket.socket, Attempt] = {}
        more = True
        while more or open_now:
            while more and len(open_now) < _AT_ONCE:
                attempt = next(waiting, None)
                if attempt is None:
                    more = False
                    break
                made = _begin(attempt, places)
                if made is not None:
                    open_now[made] = attempt
                    stream = attempt.protocol != "UDP"
                    selector.register(made, selectors.EVENT_WRITE if stream else selectors.EVENT_READ)
            for key, events in selector.select(0.05):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if _step(ready, open_now[ready], events, selector):
                    _finish(ready, open_now, selector)
            now = time.monotonic()
            for made in [each for each, attempt in open_now.items() if attempt.deadline <= now]:
                open_now[made].outcome = "dropped"
                _finish(made, open_now, selector)
            for made, attempt in open_now.items():
                if attempt.again and attempt.again <= now:
                    _send_again(made, attempt, now)


def _begin(attempt: Attempt, places: Places) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in attempt.address else socket.AF_INET
    places.enter(attempt.netns)
    made = socket.socket(family, *_KINDS[attempt.protocol])
    # A port that no other connection has: connections to different services that end at the same endpoint, IPVS can
    # only tell apart by their clients' ports.
    made.bind(("", next(_source_ports)))
    made.setblocking(False)
    attempt.deadline = time.monotonic() + attempt.timeout
    code = made.connect_ex((attempt.address, attempt.port))
    if code not in (0, errno.EINPROGRESS):
        attempt.outcome = _told(code)
        made.close()
        return None
    if attempt.protocol == "UDP":
        attempt.sent += 1
        try:
            made.send(b"?")
        except PermissionError:
            pass  # a rule of the very host has it; whether it also refuses is told to the socket afterwards
        except OSError as error:
            attempt.outcome = _told(error.errno or 0)
            made.close()
            return None
        attempt.again = time.monotonic() + attempt.timeout / _SENDS
    return made


def _send_again(made: socket.socket, attempt: Attempt, now: float) -> None:
    attempt.again = now + attempt.timeout / _SENDS
    attempt.sent += 1
    with contextlib.suppress(OSError):  # a refusal is told by the next look at the socket, too
        made.send(b"?")


def _step(made: socket.socket, attempt: Attempt, events: int, selector: selectors.BaseSelector) -> bool:
    """Whether the attempt is over."""
    if events & selectors.EVENT_WRITE:
        if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            attempt.outcome = _told(code)
            return True
        selector.modify(made, selectors.EVENT_READ)
        return False
    try:
        data = made.recv(512)
    except OSError as error:
        attempt.outcome = _told(error.errno or 0)
        return True
    attempt.received += data
    if data and not attempt.received.endswith(b"\n"):
        return False
    attempt.outcome = attempt.received.decode().strip() or "closed without an answer"
    return True


def _finish(made: socket.socket, open_now: dict[socket.socket, Attempt], selector: selectors.BaseSelector) -> None:
    selector.unregister(made)
    del open_now[made]
    made.close()


def _told(code: int) -> str:
    return "refused" if code == errno.ECONNREFUSED else errno.errorcode.get(code, str(code))


class Servers:
    """Answers "<place> <address the client has for it>" in every namespace named. Meant for a thread of its own."""

    def __init__(self, places: Iterable[tuple[str, str, int]], protocols: Iterable[str]) -> None:
        """``places``: name, namespace and port."""
        self._selector = selectors.DefaultSelector()
        with Places() as there:
            for name, netns, port in places:
                there.enter(netns)
                for made in _listeners(port, protocols):
                    self._selector.register(made, selectors.EVENT_READ, name)

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                made = key.fileobj
                assert isinstance(made, socket.socket)
                if made.type == socket.SOCK_DGRAM:
                    _, peer = made.recvfrom(512)
                    made.sendto(f"{key.data} {peer[0]}\n".encode(), peer)
                    continue
                accepted, peer = made.accept()
                with accepted:
                    try:
                        accepted.sendall(f"{key.data} {peer[0]}\n".encode())
                    except OSError:
                        pass  # a client that did not wait


def _listeners(port: int, protocols: Iterable[str]) -> Iterator[socket.socket]:
    for protocol in protocols:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            made = socket.socket(family, *_KINDS[protocol])
            if protocol == "TCP":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6 and protocol != "SCTP":
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if family == socket.AF_INET6 and protocol == "SCTP":
                made.close()  # the one of IPv4 takes the port; SCTP is tried over IPv4
                continue
            made.bind((everywhere, port))
            if protocol != "UDP":
                made.listen(512)
            yield made
