"""Services in the nftables tables of ours, asked of ``nft`` element by element: what it costs does not depend on how
many services there are. A chain that a service has of its own (session affinity) is read as a whole."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from agents.proxy.seen import EndpointSeen, RulesSeen

TABLE = "orca-proxy"
MOST = 64
"""Endpoints that are looked up."""

Nft = Callable[..., Awaitable[str]]
"""`nft(*arguments)`: what it prints; "" when what was asked for is not there. Raises OSError."""

_VERDICT = re.compile(r"(?:counter packets (?P<packets>\d+)[^}]*?)?: goto (?P<chain>\S+)")
_ENDPOINT = re.compile(r"(?:counter packets (?P<packets>\d+)[^:}]*)?: (?P<ip>[0-9a-f.:]+) \. (?P<port>\d+)")
_NUMBERED = re.compile(r"cluster-ip(?P<local>-local)?-(?P<count>\d+)$")
_OWN = re.compile(r'goto "?endpoint-[^/\s"]+/[^/\s"]+/[^/\s"]+/(?P<ip>[^/\s"]+)/(?P<port>\d+)')


async def seen(nft: Nft, ip: str, port: int, protocol: str) -> RulesSeen:
    """What the table of the address' family has for an address and port. Raises OSError."""
    family = "ip6" if ":" in ip else "ip"
    key = f"{ip} . {protocol.lower()} . {port}"

    async def element(name: str, which: str) -> str:
        return await nft("get", "element", family, TABLE, name, f"{{ {which} }}")

    found = await element("service-ips", key)
    verdict = _VERDICT.search(found)
    if verdict is None:
        refusing = await element("no-endpoint-services", key)
        return RulesSeen("nftables", present=bool(refusing), refuses=bool(refusing), text=_elements(refusing))
    text, endpoints = list(_elements(found)), []
    numbered = _NUMBERED.search(verdict["chain"])
    if numbered is not None:
        name = "local-endpoints" if numbered["local"] else "cluster-endpoints"
        for slot in range(min(int(numbered["count"]), MOST)):
            told = await element(name, f"{key} . {slot}")
            text += _elements(told)
            if one := _ENDPOINT.search(told):
                packets = int(one["packets"]) if one["packets"] else None
                endpoints.append(EndpointSeen(one["ip"], int(one["port"]), packets))
    else:
        told = await nft("list", "chain", family, TABLE, f'"{verdict["chain"].strip(chr(34))}"')
        text += [line.strip() for line in told.splitlines() if "goto" in line]
        own = {(one["ip"].replace(".", ":") if family == "ip6" else one["ip"], int(one["port"]))
               for one in _OWN.finditer(told)}  # fmt: skip
        endpoints = [EndpointSeen(*each) for each in sorted(own)]
    packets = int(verdict["packets"]) if verdict["packets"] else None
    return RulesSeen("nftables", present=True, packets=packets, endpoints=tuple(endpoints), text=tuple(text))


def _elements(told: str) -> tuple[str, ...]:
    """The elements of what ``nft get element`` prints."""
    body = told.partition("elements = {")[2].partition("}")[0]
    return tuple(line.strip().rstrip(",") for line in body.splitlines() if line.strip())
