"""Sockets, and TCP connections, from inside a pod's network namespace.

A socket belongs to the namespace of the thread that made it, for good. So a short-lived thread enters the namespace,
makes the socket and ends; everything else happens in the event loop, whose own thread never changes namespace.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import os
import socket
import threading

CLONE_NEWNET = 0x40000000
CONNECT_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


async def open_connection(pid: int, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to `port` on the loopback of the namespace of process `pid`: IPv4, then IPv6. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            made = await make_socket(pid, family)
        except OSError as error:
            failure = failure or error
            continue
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(made, (host, port))
            return await asyncio.open_connection(sock=made)
        except OSError as error:
            made.close()
            # The event loop words it in its own way; say what the system says.
            reason = os.strerror(error.errno).lower() if error.errno else "i/o timeout"
            failure = failure or OSError(error.errno, f"dial tcp {host}:{port}: connect: {reason}")
        except BaseException:
            made.close()
            raise
    raise failure or OSError("no address family")


async def make_socket(
    pid: int, family: socket.AddressFamily, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket:
    """A non-blocking socket that lives in the network namespace of `pid`. Raises OSError."""
    result: concurrent.futures.Future[socket.socket] = concurrent.futures.Future()

    def work() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"cannot enter the network namespace: {os.strerror(number)}")
            finally:
                os.close(descriptor)
            made = socket.socket(family, kind)
            made.setblocking(False)
            result.set_result(made)
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name=f"netns-of-{pid}", daemon=True).start()
    return await asyncio.wrap_future(result)
