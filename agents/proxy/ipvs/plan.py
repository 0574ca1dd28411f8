"""From what the kernel has of a virtual server to what it should have: operations, in order. Pure.

A real server that is wanted no more keeps its connections: its weight becomes 0, so that no new one goes there, and it
is removed when none is left. UDP has no connections that would end: it goes at once (kube-proxy's rule as well).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.proxy.ipvs.layout import Server, Virtual, VirtualKey

SETTABLE = 0x1 | 0x8 | 0x10
"""Flags of a virtual server that are ours to say; others the kernel sets itself."""


@dataclass(frozen=True, slots=True)
class RealServer:
    """One as the kernel has it."""

    weight: int
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Actual:
    """A virtual server as the kernel has it."""

    scheduler: str
    flags: int
    timeout: int
    servers: Mapping[Server, RealServer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PutVirtual:
    """Make or change (``exists``) a virtual server; its real servers stay."""

    key: VirtualKey
    virtual: Virtual
    exists: bool


@dataclass(frozen=True, slots=True)
class DropVirtual:
    key: VirtualKey


@dataclass(frozen=True, slots=True)
class PutServer:
    """Make or change (``exists``) a real server."""

    key: VirtualKey
    server: Server
    weight: int
    exists: bool


@dataclass(frozen=True, slots=True)
class DropServer:
    key: VirtualKey
    server: Server


Operation = PutVirtual | DropVirtual | PutServer | DropServer


def plan(key: VirtualKey, wanted: Virtual | None, actual: Actual | None) -> list[Operation]:
    """What makes the one virtual server as wanted (None: gone)."""
    if wanted is None:
        return [DropVirtual(key)] if actual is not None else []
    operations: list[Operation] = []
    if actual is None or (actual.scheduler, actual.flags & SETTABLE, actual.timeout if wanted.timeout else 0) != (
        wanted.scheduler,
        wanted.flags,
        wanted.timeout,
    ):
        operations.append(PutVirtual(key, wanted, actual is not None))
    there = actual.servers if actual is not None else {}
    for server in sorted(wanted.servers):
        if server not in there:
            operations.append(PutServer(key, server, 1, exists=False))
        elif there[server].weight != 1:
            operations.append(PutServer(key, server, 1, exists=True))
    for server in sorted(there.keys() - wanted.servers):
        found = there[server]
        if key.protocol == "UDP" or not found.connections:
            operations.append(DropServer(key, server))
        elif found.weight:
            operations.append(PutServer(key, server, 0, exists=True))
    return operations


def draining(wanted: Virtual | None, actual: Actual | None, key: VirtualKey) -> bool:
    """Whether, after `plan` was applied, real servers are left that wait for their connections to end."""
    if wanted is None or actual is None or key.protocol == "UDP":
        return False
    return any(found.connections for server, found in actual.servers.items() if server not in wanted.servers)
