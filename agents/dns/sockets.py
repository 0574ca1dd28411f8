"""Sockets of the DNS server."""

from __future__ import annotations

import socket

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78


def has_family_of(address: str) -> bool:
    """Whether this host's kernel knows the address' family."""
    if ":" not in address:
        return True
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


def bound_socket(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A bound socket; the address may come later (the network puts it on the host). Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(256)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"DNS cannot listen on {address}:{port}: {error.strerror}") from error
    return made
