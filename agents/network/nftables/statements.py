"""What rules are written with. A `Statement` has its text in nft's language and its code for the kernel; both are made
side by side here, and tests have ``nft`` print the code and compare it with the text. Pure.

Packets are looked at in the words of one address family: functions that need it take ``family`` 4 or 6.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from agents.network.nftables.attributes import attribute, nested, number, text

_VERDICT, _FIRST = 0, 8
"""Registers: of the verdict, and the first of 16 that hold 32 bits each."""
_DROP, _JUMP, _GOTO = 0, -3, -4
_EQUAL, _UNEQUAL = 0, 1
_NETWORK, _TRANSPORT = 1, 2
_MARK, _L4PROTO = 3, 16
_CT_STATE, _CT_STATUS = 0, 2
_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_SEEN_DNAT = 0x20
_LOCAL = 2
_FULLY_RANDOM = 0x10


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of a rule: its text and its expressions."""

    text: str
    code: bytes

    def __str__(self) -> str:
        return self.text


def verdict(word: str) -> bytes:
    """The value of a verdict: ``drop``, ``jump CHAIN`` or ``goto CHAIN``."""
    what, _, chain = word.partition(" ")
    code = {"drop": _DROP, "jump": _JUMP, "goto": _GOTO}[what]
    return nested(2, number(1, code), *((text(2, chain),) if chain else ()))


def immediate(word: str) -> Statement:
    """``drop``, ``jump CHAIN`` or ``goto CHAIN``."""
    return Statement(word, _expression("immediate", number(1, _VERDICT), nested(2, verdict(word))))


def reject(family: int) -> Statement:
    """ICMP port unreachable, which TCP clients see as a refused connection."""
    code = _expression("reject", number(1, 0), attribute(2, bytes((3 if family == 4 else 4,))))
    return Statement("reject", code)


def state(*names: str, negate: bool = False) -> Statement:
    """Of the connection: one of these (or none of them)."""
    mask = sum(_STATES[name] for name in names)
    return Statement(
        f"ct state {'! ' if negate else ''}{','.join(names)}",
        _expression("ct", number(1, 1), number(2, _CT_STATE)) + _masked(mask, 0, _EQUAL if negate else _UNEQUAL),
    )


def translated(*, negate: bool = False) -> Statement:
    """Whether the destination of the connection was translated by somebody."""
    return Statement(
        "ct status ! dnat" if negate else "ct status dnat",
        _expression("ct", number(1, 1), number(2, _CT_STATUS)) + _masked(_SEEN_DNAT, 0, _EQUAL if negate else _UNEQUAL),
    )


def marked(mark: int) -> Statement:
    """All bits of ``mark`` are set."""
    code = _expression("meta", number(2, _MARK), number(1, 1)) + _masked(mark, mark, _EQUAL)
    return Statement(f"meta mark & 0x{mark:08x} == 0x{mark:08x}", code)


def set_mark(mark: int) -> Statement:
    return _change_mark(f"meta mark set meta mark | 0x{mark:08x}", ~mark, mark)


def clear_mark(mark: int) -> Statement:
    return _change_mark(f"meta mark set meta mark & 0x{~mark & 0xFFFFFFFF:08x}", ~mark, 0)


def masquerade() -> Statement:
    """This host's address and a port nobody can guess."""
    return Statement("masquerade fully-random", _expression("masq", number(1, _FULLY_RANDOM)))


def is_local(which: str) -> Statement:
    """Whether ``saddr`` or ``daddr`` is an address of this host."""
    code = _expression("fib", number(3, {"saddr": 1, "daddr": 2}[which]), number(2, 3), number(1, 1))
    return Statement(f"fib {which} type local", code + _compare(1, struct.pack("=I", _LOCAL), _EQUAL))


def address(family: int, which: str, network: str, *, negate: bool = False) -> Statement:
    """``saddr`` or ``daddr`` is in a network, or is that one address."""
    parsed = ipaddress.ip_network(network)
    shown = str(parsed.network_address) if parsed.prefixlen == parsed.max_prefixlen else str(parsed)
    code = _load_address(family, which, 1)
    if parsed.prefixlen != parsed.max_prefixlen:
        size = parsed.max_prefixlen // 8
        code += _bitwise(1, parsed.netmask.packed, b"\0" * size)
    code += _compare(1, parsed.network_address.packed, _UNEQUAL if negate else _EQUAL)
    return Statement(f"{_ip(family)} {which} {'!= ' if negate else ''}{shown}", code)


def protocol(name: str) -> Statement:
    value = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}[name]
    code = _expression("meta", number(2, _L4PROTO), number(1, 1)) + _compare(1, bytes((value,)), _EQUAL)
    return Statement(f"meta l4proto {name.lower()}", code)


def by_chance(one_of: int) -> Statement:
    """One packet of so many."""
    code = _numgen(1, one_of) + _compare(1, struct.pack("=I", 0), _EQUAL)
    return Statement(f"numgen random mod {one_of} 0", code)


_KEY = 1
"""The first register of a key: numbered in the old way where that is the same, as nft does."""
Key = Sequence[str]
"""Of ``daddr``, ``saddr``, ``l4proto``, ``dport`` and a number, which stands for one of so many by chance."""


def find_verdict(family: int, key: Key, name: str) -> Statement:
    """Go where the map says, if it knows the packet."""
    shown, code = _load(family, key)
    return Statement(
        f"{shown} vmap @{name}",
        code + _expression("lookup", text(1, name), number(2, _KEY), number(3, 0)),
    )


def member(family: int, key: Key, name: str, *, negate: bool = False) -> Statement:
    """The packet is in the set, or is not."""
    shown, code = _load(family, key)
    inverted = (number(5, 1),) if negate else ()
    return Statement(
        f"{shown} {'!= ' if negate else ''}@{name}",
        code + _expression("lookup", text(1, name), number(2, _KEY), *inverted),
    )


def translate_by(family: int, key: Key, name: str) -> Statement:
    """To the address and port that the map has for the packet; nothing happens when it has none."""
    shown, code = _load(family, key)
    code += _expression("lookup", text(1, name), number(2, _KEY), number(3, 1))
    return Statement(f"dnat {_ip(family)} to {shown} map @{name}", code + _dnat(family))


def translate_to(family: int, ip: str, port: int) -> Statement:
    packed = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, ip)
    value = nested(2, attribute(1, packed)), nested(2, attribute(1, struct.pack(">H", port)))
    code = _expression("immediate", number(1, 1), value[0])
    code += _expression("immediate", number(1, _port_register(family)), value[1])
    shown = f"[{ip}]:{port}" if family == 6 else f"{ip}:{port}"
    return Statement(f"dnat to {shown}", code + _dnat(family))


def remember(family: int, name: str) -> Statement:
    """Put the client's address into a dynamic set, or start its time anew."""
    code = _load_address(family, "saddr", 1)
    code += _expression("dynset", text(1, name), number(3, 1), number(4, 1))
    return Statement(f"update @{name} {{ {_ip(family)} saddr }}", code)


def _ip(family: int) -> str:
    return "ip" if family == 4 else "ip6"


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *attributes))


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    return _expression("payload", number(1, register), number(2, base), number(3, offset), number(4, length))


def _load_address(family: int, which: str, register: int) -> bytes:
    offset = {(4, "saddr"): 12, (4, "daddr"): 16, (6, "saddr"): 8, (6, "daddr"): 24}[family, which]
    return _payload(_NETWORK, offset, 4 if family == 4 else 16, register)


def _numgen(register: int, modulus: int) -> bytes:
    return _expression("numgen", number(1, register), number(2, modulus), number(3, 1), number(4, 0))


def _load(family: int, key: Key) -> tuple[str, bytes]:
    """The text of a key and the code that puts it into registers one after the other."""
    shown, code, register = [], b"", _FIRST
    for part in key:
        where = 1 if register == _FIRST else register
        if part in ("saddr", "daddr"):
            shown.append(f"{_ip(family)} {part}")
            code += _load_address(family, part, where)
            register += 1 if family == 4 else 4
        elif part == "l4proto":
            shown.append("meta l4proto")
            code += _expression("meta", number(2, _L4PROTO), number(1, where))
            register += 1
        elif part == "dport":
            shown.append("th dport")
            code += _payload(_TRANSPORT, 2, 2, where)
            register += 1
        else:
            shown.append(f"numgen random mod {int(part)}")
            code += _numgen(where, int(part))
            register += 1
    return " . ".join(shown), code


def _port_register(family: int) -> int:
    return _FIRST + (1 if family == 4 else 4)


def _dnat(family: int) -> bytes:
    """To the address in the first register, or four, and the port behind it."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    address_at, port_at = number(3, 1) + number(4, 1), number(5, _port_register(family))
    return _expression("nat", number(1, 1), number(2, kind), address_at, port_at, number(6, _port_register(family)))


def _bitwise(register: int, mask: bytes, flip: bytes) -> bytes:
    return _expression(
        "bitwise",
        number(1, register),
        number(2, register),
        number(3, len(mask)),
        nested(4, attribute(1, mask)),
        nested(5, attribute(1, flip)),
    )


def _compare(register: int, value: bytes, how: int) -> bytes:
    return _expression("cmp", number(1, register), number(2, how), nested(3, attribute(1, value)))


def _masked(mask: int, value: int, how: int) -> bytes:
    return _bitwise(1, struct.pack("=I", mask), struct.pack("=I", 0)) + _compare(1, struct.pack("=I", value), how)


def _change_mark(shown: str, keep: int, flip: int) -> Statement:
    code = _expression("meta", number(2, _MARK), number(1, 1))
    code += _bitwise(1, struct.pack("=I", keep & 0xFFFFFFFF), struct.pack("=I", flip))
    return Statement(shown, code + _expression("meta", number(2, _MARK), number(3, 1)))
