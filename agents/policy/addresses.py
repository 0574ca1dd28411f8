"""Named sets of addresses that rules refer to: pods that selectors mean, and blocks of addresses. Pure.

A set is named by what it means, so rules with the same peers share it, whatever policy they are of.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from agents.policy.model import Block, NamedPort, Pod, PodPeer

COMMENT_SIZE = 120
"""Characters; the kernel keeps 128 bytes."""
Range = tuple[int, int]
"""First and last of consecutive numbers."""


@dataclass(frozen=True, slots=True)
class PodSet:
    """Addresses of one family of the pods that any of ``peers`` means; with ``port``, each with its numbers for it."""

    peers: frozenset[PodPeer]
    family: int
    port: NamedPort | None = None

    @property
    def name(self) -> str:
        return _name_of_pods(self)

    @property
    def definition(self) -> str:
        """As nft declares it."""
        kind = address_type(self.family)
        if self.port is not None:
            kind += " . inet_proto . inet_service"
        what = "; ".join(sorted(map(str, self.peers)))
        return f'type {kind}; comment "{comment(f"{self.port} of {what}" if self.port else what)}";'

    def elements(self, pod: Pod, namespace_labels: Mapping[str, str] | None) -> tuple[str, ...]:
        """What the pod adds to it, () when it is not meant."""
        if not any(
            peer.covers_namespace(pod.namespace, namespace_labels) and peer.pods.matches(pod.labels)
            for peer in self.peers
        ):
            return ()
        addresses = tuple(address for address in pod.addresses if family_of(address) == self.family)
        if self.port is None:
            return addresses
        numbers = pod.ports.get(self.port, ())
        return tuple(f"{one} . {self.port.protocol.lower()} . {number}" for one in addresses for number in numbers)

    def may_mean(self, namespace: str, namespace_labels: Mapping[str, str] | None) -> bool:
        """Whether pods of that namespace can be in it."""
        return any(peer.covers_namespace(namespace, namespace_labels) for peer in self.peers)


@dataclass(frozen=True, slots=True)
class BlockSet:
    """Addresses of one family, as disjoint ranges in order."""

    ranges: tuple[Range, ...]
    family: int
    what: str = ""
    """For people."""

    @property
    def name(self) -> str:
        return f"block{self.family}-{digest(str(self.ranges))}"

    @property
    def definition(self) -> str:
        return f'type {address_type(self.family)}; flags interval; comment "{comment(self.what)}";'

    @property
    def everything(self) -> bool:
        """Every address of the family."""
        return self.ranges == ((0, _last(self.family)),)

    def addresses(self) -> frozenset[str]:
        """Its elements."""
        kind = ipaddress.IPv4Address if self.family == 4 else ipaddress.IPv6Address
        return frozenset(
            str(kind(first)) if first == last else f"{kind(first)}-{kind(last)}" for first, last in self.ranges
        )


def block_set(blocks: Iterable[Block], family: int) -> BlockSet | None:
    """What the blocks contain of a family; None when that is nothing."""
    mine = sorted((block for block in blocks if block.network.version == family), key=str)
    ranges = merged(one for block in mine for one in _without_excepted(block))
    return BlockSet(ranges, family, "; ".join(map(str, mine))) if ranges else None


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same numbers as disjoint ranges, none next to another."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _without_excepted(block: Block) -> Iterator[Range]:
    first, end = int(block.network.network_address), int(block.network.broadcast_address)
    holes = merged(
        (int(one.network_address), int(one.broadcast_address))
        for one in block.excepted
        if one.version == block.network.version
    )
    for low, high in holes:
        if high < first or low > end:
            continue
        if low > first:
            yield first, low - 1
        first = high + 1
    if first <= end:
        yield first, end


def family_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def address_type(family: int) -> str:
    """What nft calls addresses of the family."""
    return "ipv4_addr" if family == 4 else "ipv6_addr"


def digest(text: str) -> str:
    """Short, and the same in every process."""
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def comment(text: str) -> str:
    """Text fit to stand between quotes."""
    text = "".join(c for c in text if c.isprintable() and c.isascii() and c not in '"\\')
    return text if len(text) <= COMMENT_SIZE else text[: COMMENT_SIZE - 3] + "..."


def _last(family: int) -> int:
    return (1 << (32 if family == 4 else 128)) - 1


@lru_cache(maxsize=4096)
def _name_of_pods(pods: PodSet) -> str:
    # The fields, not the text for people: that one cannot be told apart in every case.
    peers = sorted(repr((one.namespace, str(one.namespaces), str(one.pods))) for one in pods.peers)
    kind = "pods" if pods.port is None else "ports"
    return f"{kind}{pods.family}-{digest(repr((peers, pods.port)))}"
