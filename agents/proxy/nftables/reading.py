"""What the kernel has of one of our tables, in the words of `agents.proxy.nftables.state`."""

from __future__ import annotations

import struct
from collections.abc import Collection

from agents.network.nftables.attributes import attributes
from agents.network.nftables.kernel import Kernel
from agents.network.nftables.sets import COUNTED, Element
from agents.network.nftables.wire import BaseChain, digest_of
from agents.proxy.nftables.layout import TABLE
from agents.proxy.nftables.state import Observed

_VERDICT_TYPE = 0xFFFFFF00
_WORDS = {0: "drop", 1: "accept", -3: "jump", -4: "goto"}


def read(kernel: Kernel, family: int, filled_by_us: Collection[str]) -> Observed | None:
    """None when there is no such table. Raises ``NftablesError``."""
    if TABLE not in kernel.tables(family):
        return None
    found = Observed()
    for chain in kernel.chains(family, TABLE):
        found.chains[_text(chain.get(3, b""))] = _base(chain)
    for rule in kernel.rules(family, TABLE):
        found.rules.setdefault(_text(rule.get(2, b"")), []).append(digest_of(rule))
    for each in kernel.sets(family, TABLE):
        name = _text(each.get(2, b""))
        data = 0 if _number(each.get(6)) == _VERDICT_TYPE else _number(each.get(7))
        seconds = int.from_bytes(each.get(11, b""), "big") // 1000
        flags = _number(each.get(3)) | (COUNTED if 17 in each else 0)
        found.sets[name] = flags, _number(each.get(5)), data, seconds
        if name in filled_by_us:
            for element in kernel.elements(family, TABLE, name):
                one = _element(element)
                found.elements[(name, one.key)] = one
    return found


def _base(chain: dict[int, bytes]) -> BaseChain | None:
    if 4 not in chain:
        return None
    hook = attributes(chain[4])
    (priority,) = struct.unpack(">i", hook[2])
    return BaseChain(_text(chain.get(7, b"")), _number(hook.get(1)), priority)


def _element(found: dict[int, bytes]) -> Element:
    note = found.get(6, b"")
    comment = note[2 : 2 + note[1]].rstrip(b"\0").decode(errors="replace") if note[:1] == b"\0" else ""
    data: bytes | str = b""
    if 2 in found:
        value = attributes(found[2])
        data = value[1] if 1 in value else _verdict(attributes(value.get(2, b"")))
    until = attributes(found[10])[1] if 10 in found else b""
    return Element(attributes(found[1])[1], data, comment, until)


def _verdict(found: dict[int, bytes]) -> str:
    (code,) = struct.unpack(">i", found[1])
    word = _WORDS.get(code, str(code))
    return f"{word} {_text(found[2])}" if 2 in found else word


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "big")
