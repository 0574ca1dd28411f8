"""Services in ``/proc/net/ip_vs``. Pure."""

from __future__ import annotations

import ipaddress

from agents.proxy.seen import EndpointSeen, RulesSeen


def seen(table: str, ip: str, port: int, protocol: str) -> RulesSeen:
    """What the table has for an address and port; it counts connections, not packets."""
    text: list[str] = []
    endpoints: list[EndpointSeen] = []
    inside = False
    for line in table.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in ("TCP", "UDP", "SCTP"):
            inside = words[0] == protocol and _address(words[1]) == (ip, port)
        elif inside and len(words) >= 6 and words[0] == "->":
            address = _address(words[1])
            if address is not None:
                endpoints.append(EndpointSeen(*address, connections=int(words[4]) + int(words[5])))
        if inside:
            text.append(line.rstrip())
    return RulesSeen("ipvs", present=bool(text), endpoints=tuple(endpoints), text=tuple(text))


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    try:
        if host.startswith("["):
            return str(ipaddress.IPv6Address(host.strip("[]"))), int(port, 16)
        return str(ipaddress.IPv4Address(int(host, 16))), int(port, 16)
    except ValueError:
        return None
