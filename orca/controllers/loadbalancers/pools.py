"""Address pools as people write them: the ConfigMap `kube-system/load-balancer`, key `pools`, a YAML list. Pure.

- name: office
  addresses: [192.168.7.240-192.168.7.250, 2001:db8:7::100/120]
  autoAssign: true                  # false: only for Services that ask for the pool or one of its addresses
  namespaces: [web]                 # whose Services may have them; default: all
  nodeSelector: {rack: a}           # hosts that may announce them; default: all
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import yaml

from orca.api import names

NAMESPACE, CONFIG_MAP, KEY = "kube-system", "load-balancer", "pools"
_FIELDS = ("name", "addresses", "autoAssign", "namespaces", "nodeSelector")

Address = IPv4Address | IPv6Address


class PoolsError(ValueError):
    """The configuration cannot be used; the message names every fault with its place."""


@dataclass(frozen=True, slots=True)
class Range:
    """From ``first`` to ``last``, both included and of one family."""

    first: Address
    last: Address

    def __contains__(self, address: Address) -> bool:
        return self.first.version == address.version and int(self.first) <= int(address) <= int(self.last)

    def __len__(self) -> int:
        return min(int(self.last) - int(self.first) + 1, 1 << 62)

    def __iter__(self) -> Iterator[Address]:
        for number in range(int(self.first), int(self.last) + 1):
            yield type(self.first)(number)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: Range) -> bool:
        return other.first in self or self.first in other


@dataclass(frozen=True, slots=True)
class Pool:
    """See the module."""

    name: str
    ranges: tuple[Range, ...]
    auto_assign: bool = True
    namespaces: frozenset[str] = frozenset()
    node_selector: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, address: Address) -> bool:
        return any(address in one for one in self.ranges)

    def serves(self, namespace: str) -> bool:
        """Whether Services of the namespace may have its addresses."""
        return not self.namespaces or namespace in self.namespaces

    def addresses(self, family: str) -> Iterator[Address]:
        """All of "IPv4" or "IPv6", in order."""
        for one in self.ranges:
            if f"IPv{one.first.version}" == family:
                yield from one


def parse_pools(text: str, reserved: Mapping[str, str] | None = None) -> tuple[Pool, ...]:
    """``reserved``: networks that no pool may touch -> what they are. Raises PoolsError."""
    try:
        listed = yaml.safe_load(text or "[]")
    except yaml.YAMLError as error:
        raise PoolsError(f"{KEY}: not YAML: {' '.join(str(error).split())}") from None
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise PoolsError(f"{KEY}: must be a list of pools")
    problems: list[str] = []
    pools = [_pool(one, f"{KEY}[{index}]", problems) for index, one in enumerate(listed)]
    _check_together(pools, reserved or {}, problems)
    if problems:
        raise PoolsError("; ".join(problems))
    return tuple(pools)


def parse_range(text: object) -> Range:
    """`first-last`, a CIDR or one address. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("must be text")
    first, dash, last = (part.strip() for part in text.partition("-"))
    if dash:
        found = Range(ip_address(first), ip_address(last))
        if found.first.version != found.last.version:
            raise ValueError("both ends must be of one family")
        if int(found.first) > int(found.last):
            raise ValueError("the first address is after the last")
    else:
        network = ip_network(text.strip())
        found = Range(network[0], network[-1])
    for end in (found.first, found.last):
        if end.is_loopback or end.is_multicast or end.is_unspecified or end.is_link_local:
            raise ValueError(f"{end} is no address that hosts can have on a network")
    return found


def _pool(given: object, at: str, problems: list[str]) -> Pool:
    if not isinstance(given, dict):
        problems.append(f"{at}: must be a mapping with name and addresses")
        return Pool("", ())
    problems += [f'{at}: unknown field "{name}"' for name in given if name not in _FIELDS]
    name = given.get("name")
    if not isinstance(name, str) or names.dns1123_label(name):
        problems.append(f"{at}.name: must be a lowercase RFC 1123 label")
        name = ""
    ranges: list[Range] = []
    listed = given.get("addresses")
    if not isinstance(listed, list) or not listed:
        problems.append(f"{at}.addresses: at least one range is required")
        listed = []
    for index, text in enumerate(listed):
        try:
            ranges.append(parse_range(text))
        except ValueError as error:
            problems.append(f"{at}.addresses[{index}]: {text!r}: {error}")
    auto = given.get("autoAssign", True)
    if not isinstance(auto, bool):
        problems.append(f"{at}.autoAssign: must be true or false")
    spaces = given.get("namespaces", [])
    if not isinstance(spaces, list) or not all(isinstance(one, str) and not names.dns1123_label(one) for one in spaces):
        problems.append(f"{at}.namespaces: must be a list of names of namespaces")
        spaces = []
    selector = given.get("nodeSelector", {})
    if not isinstance(selector, dict) or not all(_is_label(key, value) for key, value in selector.items()):
        problems.append(f"{at}.nodeSelector: must be a mapping of labels to values")
        selector = {}
    return Pool(name, tuple(ranges), auto is True, frozenset(spaces), dict(selector))


def _is_label(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, str)
        and not names.qualified_name(key)
        and not names.label_value(value)
    )


def _check_together(pools: list[Pool], reserved: Mapping[str, str], problems: list[str]) -> None:
    seen: list[tuple[str, Range]] = []
    for index, pool in enumerate(pools):
        if pool.name and pool.name in [other.name for other in pools[:index]]:
            problems.append(f'{KEY}[{index}].name: there is another pool "{pool.name}"')
        for one in pool.ranges:
            problems += [
                f"{KEY}[{index}].addresses: {one} overlaps {other} of pool {owner}"
                for owner, other in seen
                if one.overlaps(other)
            ]
            problems += [
                f"{KEY}[{index}].addresses: {one} overlaps {cidr}, {what}"
                for cidr, what in reserved.items()
                if one.overlaps(_of_network(cidr))
            ]
            seen.append((pool.name, one))


def _of_network(cidr: str) -> Range:
    network = ip_network(cidr, strict=False)
    return Range(network[0], network[-1])


def describe(pools: Iterable[Pool]) -> str:
    """For messages."""
    return ", ".join(f"{pool.name} ({', '.join(map(str, pool.ranges))})" for pool in pools)
