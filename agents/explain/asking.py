"""What a pod would get if it asked: names of its nameservers, connections to addresses; from its own network."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
import time
from typing import Any

from agents.dns import wire
from agents.dns.received import answers, fits, is_truncated, read
from agents.dns.wire import Query
from agents.server.netns import make_socket

ANSWER_SECONDS = 2.0
CONNECT_SECONDS = 2.0
KINDS = {"A": wire.A, "AAAA": wire.AAAA, "SRV": wire.SRV, "PTR": wire.PTR, "TXT": wire.TXT, "CNAME": wire.CNAME}


async def resolve(pid: int, nameserver: str, name: str, kind: str) -> dict[str, Any]:
    """Ask a nameserver from the namespace of ``pid``. Errors of the network are part of the answer."""
    found: dict[str, Any] = {"name": name, "type": kind, "nameserver": nameserver, "rcode": "", "records": []}
    family = socket.AF_INET6 if ":" in nameserver else socket.AF_INET
    try:
        query = Query(0, name.rstrip(".").lower(), KINDS[kind], wire.name_data(name.rstrip(".")) + _TYPE[kind])
        answer = await _exchange(pid, family, nameserver, query)
        received = read(answer, len(query.wire))
    except TimeoutError:
        return {**found, "error": f"no answer within {ANSWER_SECONDS:g} s"}
    except (OSError, ValueError) as error:
        return {**found, "error": getattr(error, "strerror", None) or str(error)}
    found["rcode"] = wire.RCODES[received.rcode] if received.rcode < len(wire.RCODES) else str(received.rcode)
    found["truncated"] = is_truncated(answer)
    for record in answers(received, query):
        if record.kind in (wire.A, wire.AAAA):
            data = str(ipaddress.ip_address(record.data))
        elif record.kind == wire.CNAME:
            data = wire.name_text(record.data)
        else:
            continue
        found["records"].append({"name": record.name, "type": wire.KINDS[record.kind], "data": data, "ttl": record.ttl})
    return found


_TYPE = {kind: struct.pack(">HH", number, wire.IN) for kind, number in KINDS.items()}


async def _exchange(pid: int, family: socket.AddressFamily, nameserver: str, query: Query) -> bytes:
    """Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    identity = int.from_bytes(os.urandom(2), "big")
    message = wire.HEADER.pack(identity, wire.RECURSION_DESIRED, 1, 0, 0, 1) + query.wire + wire.opt_record()
    made = await make_socket(pid, family, socket.SOCK_DGRAM)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await loop.sock_connect(made, (nameserver, 53))
            await loop.sock_sendall(made, message)
            while True:
                answer = await loop.sock_recv(made, 65535)
                if fits(answer, identity, query):
                    return answer
    finally:
        made.close()


async def connect(pid: int, ip: str, port: int) -> dict[str, Any]:
    """Try a TCP connection from the namespace of ``pid``; "connected", "refused", "timeout" or what the system says."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    began = time.perf_counter()
    try:
        made = await make_socket(pid, family)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(made, (ip, port))
            result = "connected"
        finally:
            made.close()
    except TimeoutError:
        result = "timeout"
    except ConnectionRefusedError:
        result = "refused"
    except OSError as error:
        result = os.strerror(error.errno).lower() if error.errno else str(error)
    return {"ip": ip, "port": port, "result": result, "seconds": round(time.perf_counter() - began, 4)}
