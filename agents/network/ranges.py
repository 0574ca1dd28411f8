"""Ranges of addresses, one of each family: "10.244.0.0/16", or "10.244.0.0/16,fd00:10:244::/56". Pure but for one look
at the host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_INTERFACES = Path("/proc/net/if_inet6")
_DISABLED = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")


@dataclass(frozen=True, slots=True)
class Ranges:
    """At most one range a family; "" where there is none. ``ordered``: as they were given, the primary one first."""

    ipv4: str = ""
    ipv6: str = ""
    ordered: tuple[str, ...] = ()

    def of(self, family: int) -> str:
        """The range of family 4 or 6, "" when there is none."""
        return self.ipv6 if family == 6 else self.ipv4

    def only(self, families: Iterable[int]) -> Ranges:
        """Without the ranges of other families."""
        kept = set(families)
        return split(",".join(one for one in self.ordered if family_of(one) in kept))

    @property
    def families(self) -> tuple[int, ...]:
        """4 and 6, in the order of the ranges."""
        return tuple(family_of(one) for one in self.ordered)


def family_of(text: str) -> int:
    """4 or 6, of an address or a range."""
    return 6 if ":" in text else 4


def split(text: str | Iterable[str]) -> Ranges:
    """From a comma-separated list. Raises ValueError for what is no range, and for two of one family."""
    found: dict[int, str] = {}
    parts = text.split(",") if isinstance(text, str) else text
    for part in (part.strip() for part in parts):
        if not part:
            continue
        network = ipaddress.ip_network(part)
        if network.version in found:
            raise ValueError(f"{text!r}: one IPv4 and one IPv6 range at most")
        found[network.version] = str(network)
    return Ranges(found.get(4, ""), found.get(6, ""), tuple(found.values()))


def host_has_ipv6() -> bool:
    """Whether the kernel of this host carries IPv6 and nobody has switched it off."""
    try:
        return _INTERFACES.exists() and _DISABLED.read_text().strip() != "1"
    except OSError:
        return False
