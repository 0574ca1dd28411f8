"""Virtual servers and the addresses of ``kube-ipvs0`` through netlink. Blocking, for a thread; microseconds a request.

Messages are packed here: they are few and flat, a host may need tens of thousands of them at its start, and pyroute2's
own sockets are asyncio endpoints that uvloop cannot open. Numbers are those of linux/ip_vs.h and linux/rtnetlink.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable

from agents.network.sockets import DUMP, NetlinkError, NetlinkSocket, Plain, attribute, attributes, messages
from agents.proxy.ipvs.layout import Server, VirtualKey
from agents.proxy.ipvs.plan import Actual, DropServer, DropVirtual, Operation, PutServer, PutVirtual, RealServer

DEVICE = "kube-ipvs0"

_ROUTE, _GENERIC = 0, 16
_EXCLUSIVE, _CREATE = 0x200, 0x400
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_NEW_SERVICE, _SET_SERVICE, _DEL_SERVICE, _GET_SERVICE = 1, 2, 3, 4
_NEW_DEST, _SET_DEST, _DEL_DEST, _GET_DEST = 5, 6, 7, 8
_SERVICE, _DEST = 1, 2
_SVC_AF, _SVC_PROTOCOL, _SVC_ADDR, _SVC_PORT, _SVC_FWMARK = range(1, 6)
_SVC_SCHED, _SVC_FLAGS, _SVC_TIMEOUT, _SVC_NETMASK = range(6, 10)
_DST_ADDR, _DST_PORT, _DST_METHOD, _DST_WEIGHT, _DST_UPPER, _DST_LOWER, _DST_ACTIVE, _DST_INACTIVE = range(1, 9)
_DST_FAMILY = 11
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _GETADDR = 16, 17, 20, 21, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFLA_NAME, _IFLA_INFO, _IFLA_KIND = 1, 2, 3, 18, 1
_NO_DAD = 0x02
_ADDRESS_GROUPS = 0x10 | 0x100
"""``RTMGRP_IPV4_IFADDR`` and that of IPv6."""
_PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_NESTED = 0x8000
PATIENCE_SECONDS = 10.0


class VirtualServers:
    """The kernel's IPVS of this network namespace. Raises ``NetlinkError``, at once where there is no IPVS."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(_GENERIC, timeout=PATIENCE_SECONDS)
        try:
            body = struct.pack("=BBH", _GET_FAMILY, 1, 0) + attribute(_FAMILY_NAME, b"IPVS\0")
            (answer,) = self._socket.ask(Plain(_CONTROLLER, body, 0, "find the family IPVS"))
        except OSError:
            self._socket.close()
            raise
        self._family = int.from_bytes((attributes(answer[4:]))[_FAMILY_ID], "little")

    def close(self) -> None:
        self._socket.close()

    def found(self) -> dict[VirtualKey, Actual]:
        """Every virtual server by address (those by mark are nobody's of ours), without real servers."""
        found = {}
        for answer in self._ask(_GET_SERVICE):
            if parsed := _parse_service(answer):
                found[parsed[0]] = parsed[1]
        return found

    def get(self, key: VirtualKey) -> Actual | None:
        """One virtual server with its real servers, None when there is none."""
        try:
            answers = self._ask(_GET_SERVICE, attribute(_SERVICE | _NESTED, _key(key)), dump=False)
        except NetlinkError as error:
            if error.errno in (errno.ESRCH, errno.ENOENT):
                return None
            raise
        parsed = _parse_service(answers[0])
        return self.filled(key, parsed[1]) if parsed else None

    def filled(self, key: VirtualKey, actual: Actual) -> Actual:
        """With its real servers."""
        servers = {}
        for answer in self._ask(_GET_DEST, attribute(_SERVICE | _NESTED, _key(key))):
            content = attributes((attributes(answer[4:])).get(_DEST, b""))
            family = socket.AF_INET6 if ":" in key.address else socket.AF_INET
            address = _text(family, content[_DST_ADDR])
            weight, active, inactive = (
                int.from_bytes(content.get(each, b""), "little") for each in (_DST_WEIGHT, _DST_ACTIVE, _DST_INACTIVE)
            )
            servers[(address, int.from_bytes(content[_DST_PORT], "big"))] = RealServer(weight, active + inactive)
        return Actual(actual.scheduler, actual.flags, actual.timeout, servers)

    def apply(self, operations: Iterable[Operation]) -> None:
        self._socket.apply(*[self._request(operation) for operation in operations])

    def knows(self, scheduler: str) -> bool:
        """Whether the kernel has this scheduler. Tries it on a virtual server no packet can meet, and removes that."""
        mark = _number(_SVC_AF, socket.AF_INET, 2) + _number(_SVC_FWMARK, 0x7FFFFFF3, 4)
        body = mark + _settings(scheduler, 0, 0, "0.0.0.0")
        try:
            self._socket.apply(*[Plain(self._family, self._command(_NEW_SERVICE, body), _CREATE, "scheduler")])
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return False
            if error.errno != errno.EEXIST:
                raise
        self._socket.apply(*[Plain(self._family, self._command(_DEL_SERVICE, mark), 0, "scheduler")])
        return True

    def _ask(self, command: int, content: bytes = b"", *, dump: bool = True) -> list[bytes]:
        body = struct.pack("=BBH", command, 1, 0) + content
        return self._socket.ask(Plain(self._family, body, DUMP if dump else 0, f"command {command} of IPVS"))

    def _command(self, command: int, service: bytes, dest: bytes = b"") -> bytes:
        head = struct.pack("=BBH", command, 1, 0) + attribute(_SERVICE | _NESTED, service)
        return head + (attribute(_DEST | _NESTED, dest) if dest else b"")

    def _request(self, operation: Operation) -> Plain:
        key = _key(operation.key)
        ignore: tuple[int, ...]
        match operation:
            case PutVirtual(name, virtual, exists):
                settings = _settings(virtual.scheduler, virtual.flags, virtual.timeout, name.address)
                body, ignore = self._command(_SET_SERVICE if exists else _NEW_SERVICE, key + settings), (errno.EEXIST,)
            case DropVirtual():
                body, ignore = self._command(_DEL_SERVICE, key), (errno.ESRCH, errno.ENOENT)
            case PutServer(_, server, weight, exists):
                command = _SET_DEST if exists else _NEW_DEST
                body, ignore = self._command(command, key, _dest(server, weight)), (errno.EEXIST,)
            case DropServer(_, server):
                body, ignore = self._command(_DEL_DEST, key, _dest(server, 0)), (errno.ENOENT, errno.ESRCH)
        return Plain(self._family, body, 0, str(operation), ignore)


class HostAddresses:
    """Addresses of this network namespace's interfaces, and the device that carries those of services."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(_ROUTE, timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        self._socket.close()

    def ensure_device(self) -> bool:
        """Make ``kube-ipvs0``; returns whether it had to be. Raises ``NetlinkError`` (EOPNOTSUPP without dummy)."""
        if _index(DEVICE):
            return False
        info = attribute(_IFLA_INFO | _NESTED, attribute(_IFLA_KIND, b"dummy"))
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(_IFLA_NAME, DEVICE.encode() + b"\0") + info
        flags = _CREATE | _EXCLUSIVE
        self._socket.apply(*[Plain(_NEWLINK, body, flags, f"make the device {DEVICE}", (errno.EEXIST,))])
        return True

    def remove_device(self) -> None:
        if index := _index(DEVICE):
            body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
            self._socket.apply(*[Plain(_DELLINK, body, 0, f"remove {DEVICE}", (errno.ENODEV,))])

    def all(self) -> dict[str, set[str]]:
        """Interface -> its addresses."""
        found: dict[str, set[str]] = {}
        names: dict[int, str] = {}
        for answer in self._socket.ask(Plain(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0), DUMP)):
            family, _bits, _flags, _scope, index = struct.unpack_from("=BBBBi", answer)
            content = attributes(answer[8:])
            raw = content.get(_IFA_LOCAL) or content.get(_IFA_ADDRESS) or b""
            if family not in (socket.AF_INET, socket.AF_INET6) or not raw:
                continue
            if index not in names:
                with contextlib.suppress(OSError):  # gone meanwhile
                    names[index] = socket.if_indextoname(index)
            if index in names:
                found.setdefault(names[index], set()).add(socket.inet_ntop(family, raw))
        return found

    def change(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Addresses of ``kube-ipvs0``."""
        index = _index(DEVICE)
        requests = [
            Plain(_NEWADDR, _address(index, ip), _CREATE, f"address {ip} on {DEVICE}", (errno.EEXIST,)) for ip in add
        ]
        gone = (errno.EADDRNOTAVAIL, errno.ENODEV)
        requests += [Plain(_DELADDR, _address(index, ip), 0, f"remove {ip} from {DEVICE}", gone) for ip in remove]
        self._socket.apply(*requests)


class AddressEvents:
    """Tells of addresses that come and go. Not blocking: for an event loop that watches `fileno`."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _ROUTE
        )
        self._socket.bind((0, _ADDRESS_GROUPS))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> tuple[bool, set[str]]:
        """(whether addresses of other interfaces than ``kube-ipvs0`` have changed, those it has lost)."""
        others = False
        lost: set[str] = set()
        device = _index(DEVICE)
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return others, lost
            except OSError:
                others = True  # more than the socket could hold: something of everything
                continue
            for kind, _sequence, body in messages(data):
                family, _bits, _flags, _scope, index = struct.unpack_from("=BBBBi", body)
                content = attributes(body[8:])
                raw = content.get(_IFA_LOCAL) or content.get(_IFA_ADDRESS) or b""
                if index != device:
                    others = True
                elif kind == _DELADDR and raw:
                    lost.add(socket.inet_ntop(family, raw))


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        # Without an errno: the C function has no other failure to tell than "no such interface".
        return 0


def _address(index: int, ip: str) -> bytes:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    raw = socket.inet_pton(family, ip)
    flags = _NO_DAD if family == socket.AF_INET6 else 0
    return (
        struct.pack("=BBBBi", family, len(raw) * 8, flags, 0, index)
        + attribute(_IFA_LOCAL, raw)
        + attribute(_IFA_ADDRESS, raw)
    )


def _key(key: VirtualKey) -> bytes:
    family = socket.AF_INET6 if ":" in key.address else socket.AF_INET
    return (
        _number(_SVC_AF, family, 2)
        + _number(_SVC_PROTOCOL, _PROTOCOLS[key.protocol], 2)
        + attribute(_SVC_ADDR, socket.inet_pton(family, key.address).ljust(16, b"\0"))
        + attribute(_SVC_PORT, key.port.to_bytes(2, "big"))
    )


def _settings(scheduler: str, flags: int, timeout: int, address: str) -> bytes:
    mask = (128).to_bytes(4, "little") if ":" in address else b"\xff\xff\xff\xff"
    return (
        attribute(_SVC_SCHED, scheduler.encode() + b"\0")
        + attribute(_SVC_FLAGS, struct.pack("=II", flags, 0xFFFFFFFF))
        + _number(_SVC_TIMEOUT, timeout, 4)
        + attribute(_SVC_NETMASK, mask)
    )


def _dest(server: Server, weight: int) -> bytes:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    return (
        attribute(_DST_ADDR, socket.inet_pton(family, server[0]).ljust(16, b"\0"))
        + attribute(_DST_PORT, server[1].to_bytes(2, "big"))
        + b"".join(_number(each, value, 4) for each, value in (
            (_DST_METHOD, 0), (_DST_WEIGHT, weight), (_DST_UPPER, 0), (_DST_LOWER, 0)))
        + _number(_DST_FAMILY, family, 2)
    )  # fmt: skip


def _parse_service(answer: bytes) -> tuple[VirtualKey, Actual] | None:
    content = attributes((attributes(answer[4:])).get(_SERVICE, b""))
    protocol = _NAMES.get(int.from_bytes(content.get(_SVC_PROTOCOL, b""), "little"))
    if protocol is None or _SVC_ADDR not in content:
        return None
    family = int.from_bytes(content[_SVC_AF], "little")
    key = VirtualKey(protocol, _text(family, content[_SVC_ADDR]), int.from_bytes(content[_SVC_PORT], "big"))
    flags = struct.unpack_from("=I", content[_SVC_FLAGS])[0]
    scheduler = content[_SVC_SCHED].split(b"\0", 1)[0].decode()
    return key, Actual(scheduler, flags, int.from_bytes(content[_SVC_TIMEOUT], "little"))


def _text(family: int, raw: bytes) -> str:
    return socket.inet_ntop(family, raw[: 16 if family == socket.AF_INET6 else 4])


def _number(kind: int, value: int, size: int) -> bytes:
    return attribute(kind, value.to_bytes(size, "little"))
