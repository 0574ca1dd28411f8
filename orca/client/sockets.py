"""Sockets that notice when their peer is gone without a word, although nothing is sent: a host that lost its power
says no goodbye, and who follows the log of a silent container, or watches what never changes, would wait for ever.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

import aiohttp

IDLE_SECONDS = 15
BETWEEN_SECONDS = 15
PROBES = 9
"""Go's defaults, so kube-apiserver's: gone after two and a half minutes without an answer."""


class Settable(Protocol):
    """A socket, or what an event loop shows of one."""

    def setsockopt(self, level: int, option: int, value: int) -> Any: ...


def keep_alive(
    one: Settable, *, idle: int = IDLE_SECONDS, between: int = BETWEEN_SECONDS, probes: int = PROBES
) -> None:
    """Have the kernel ask now and then whether the peer is there. What a listening socket accepts inherits it."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", between), ("TCP_KEEPCNT", probes)):
        if hasattr(socket, option):
            one.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket to connect with, for aiohttp's connectors."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    keep_alive(made)
    return made
