"""The ruleset as text for nft: all of it at once, or what changes between two. Pure.

Packets come to the table in three hooks, all after addresses of services have been translated to those of pods and
before a client's address is masqueraded:

    forward   between pods, and between pods and everything that is not this host
    output    what IPVS sends on (it gives packets of pods out there); the host's own packets always pass
    input     to the host itself, which pods always reach, except its DNS: that stands for pods of other clusters

Only packets in the direction of who opened the connection are judged, all of them: a connection that is not allowed
any more stops. The kernel finds replies by its table of connections, where none begins that was dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from agents.policy.addresses import PodSet, address_type, comment, digest, family_of
from agents.policy.model import INGRESS
from agents.policy.peers import PeerIndex
from agents.policy.ruleset import DIRECTIONS, FAMILIES, Chain, Isolation, Match

TABLE = "inet orca-policy"
BRIDGE_TABLE = "bridge orca-policy"
_MAX_LINE = 2000
"""Elements in one command."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The table's changing parts. Chains and sets are named by their content: the same name is the same thing."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    """Name -> definition."""
    elements: Mapping[str, frozenset[str]] = field(default_factory=dict)
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Name of the map -> address -> chain."""

    @property
    def size(self) -> int:
        """Elements of all sets and maps."""
        return sum(map(len, self.elements.values())) + sum(map(len, self.maps.values()))


def ruleset(wanted: Isolation, peers: PeerIndex, dns: Iterable[str]) -> Ruleset:
    """``peers`` has to have the elements of all pod sets; ``dns`` are addresses at which this host serves it."""
    chains = {chain: chain_name(chain) for chain in wanted.chains}
    sets = sorted(wanted.sets, key=lambda one: one.name)
    elements = {
        **{one.name: peers.elements(one) if isinstance(one, PodSet) else one.addresses() for one in sets},
        **{
            f"self{family}": frozenset(f"{one} . {one}" for one in wanted.addresses if family_of(one) == family)
            for family in FAMILIES
        },
    }
    served = list(dns)
    for family in FAMILIES:
        elements[f"dns{family}"] = frozenset(one for one in served if family_of(one) == family)
    return Ruleset(
        chains={name: chain_rules(chain) for chain, name in chains.items()},
        sets={one.name: one.definition for one in sets},
        elements=elements,
        maps={
            map_name(direction, family): {
                address: chains[chain] for address, chain in wanted.dispatch.get((direction, family), {}).items()
            }
            for direction in DIRECTIONS
            for family in FAMILIES
        },
    )


def map_name(direction: str, family: int) -> str:
    """Of the map that leads from a pod's address to its chain."""
    return f"{direction.lower()}{family}"


@lru_cache(maxsize=1024)
def chain_name(chain: Chain) -> str:
    """Named by its rules, so that a chain never changes."""
    return f"{chain.direction.lower()}{chain.family}-{digest(chr(10).join(chain_rules(chain)))}"


@lru_cache(maxsize=1024)
def chain_rules(chain: Chain) -> tuple[str, ...]:
    """Back to the hook for what is allowed, for the other end may object; the rest goes no further."""
    rules = [
        f'{condition} return comment "{comment(match.policy)}"'.strip()
        for match in chain.matches
        for condition in _conditions(match, chain)
    ]
    return (*rules, f'counter drop comment "{comment("isolated by " + ", ".join(chain.policies))}"')


def _conditions(match: Match, chain: Chain) -> Iterator[str]:
    protocol = "ip" if chain.family == 4 else "ip6"
    side = "saddr" if chain.direction == INGRESS else "daddr"
    addresses = match.addresses
    if isinstance(addresses, PodSet) and addresses.port is not None:
        yield f"{protocol} {side} . meta l4proto . th dport @{addresses.name}"
        return
    where = f"{protocol} {side} @{addresses.name} " if addresses is not None else ""
    if match.ports is None:
        yield where.rstrip()
        return
    numbers: dict[str, list[str]] = {}
    for one in match.ports:
        if one.first == 0:
            yield f"{where}meta l4proto {one.protocol.lower()}"
        else:
            text = str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
            numbers.setdefault(one.protocol.lower(), []).append(text)
    for name, texts in numbers.items():
        yield f"{where}{name} dport " + (texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}")


def frame() -> str:
    """The parts of the table that are always the same."""
    lines = [f"table {TABLE} {{", '\tcomment "NetworkPolicies of pods on this host; written by orca-agent"']
    for family in FAMILIES:
        kind = address_type(family)
        lines += [f"\tmap {map_name(direction, family)} {{ type {kind} : verdict; }}" for direction in DIRECTIONS]
        lines.append(f"\tset self{family} {{ type {kind} . {kind}; }}")
        lines.append(f"\tset dns{family} {{ type {kind}; }}")
    judge = [
        "\t\tct direction reply accept",
        "\t\tct state related accept",
        "\t\tip saddr . ip daddr @self4 accept",
        "\t\tip6 saddr . ip6 daddr @self6 accept",
        "\t\tip saddr vmap @egress4",
        "\t\tip6 saddr vmap @egress6",
        "\t\tip daddr vmap @ingress4",
        "\t\tip6 daddr vmap @ingress6",
    ]
    lines += ["\tchain forward {", "\t\ttype filter hook forward priority filter; policy accept;", *judge, "\t}"]
    lines += ["\tchain output {", "\t\ttype filter hook output priority filter; policy accept;"]
    lines += ["\t\tfib saddr type local accept", *judge, "\t}"]
    lines += ["\tchain input {", "\t\ttype filter hook input priority filter; policy accept;", judge[0]]
    lines += ["\t\tip daddr @dns4 ip saddr vmap @egress4", "\t\tip6 daddr @dns6 ip6 saddr vmap @egress6", "\t}", "}"]
    return "\n".join(lines) + "\n"


def removal(table: str = TABLE) -> str:
    """Takes the table away, whether or not it is there."""
    return f"add table {table}\ndelete table {table}\n"


def shortcut_closed(ports: str, families: Iterable[int]) -> str:
    """The table that keeps pods from sending frames to each other past the host's IP rules.

    By their routes they send everything to the host, but who may send raw frames could address a neighbour on the
    bridge. ``ports`` is how names of pods' ports begin; ``families`` are those whose bridged packets the kernel does
    not show to the IP rules by itself.
    """
    lines = [f"table {BRIDGE_TABLE} {{", "\tchain forward {", "\t\ttype filter hook forward priority filter;"]
    for family in families:
        kind = "ip" if family == 4 else "ip6"
        between = f'iifname "{ports}*" oifname "{ports}*"'
        lines.append(f'\t\t{between} ether type {kind} counter drop comment "past the policies"')
    return removal(BRIDGE_TABLE) + "\n".join([*lines, "\t}", "}"]) + "\n"


def replacement(new: Ruleset) -> str:
    """The whole table in one step: no packet sees it half."""
    return removal() + frame() + difference(Ruleset(), new)


def difference(old: Ruleset, new: Ruleset) -> str:
    """Commands that turn ``old`` into ``new`` in one step; "" when nothing changes."""
    lines: list[str] = []
    for name, definition in new.sets.items():
        if name not in old.sets:
            lines.append(f"add set {TABLE} {name} {{ {definition} }}")
    for name, elements in new.elements.items():
        before = old.elements.get(name, frozenset())
        if before is not elements:
            lines += _elements("delete", name, before - elements)
            lines += _elements("add", name, elements - before)
    for name, rules in new.chains.items():
        if name not in old.chains:
            lines.append(f"add chain {TABLE} {name}")
            lines += [f"add rule {TABLE} {name} {rule}" for rule in rules]
    for name, led in new.maps.items():
        before_led = old.maps.get(name, {})
        # A map keeps what it has for a key: what changes is taken out first.
        out = [address for address, chain in before_led.items() if led.get(address) != chain]
        lines += _elements("delete", name, out)
        added = (f"{address} : jump {chain}" for address, chain in led.items() if before_led.get(address) != chain)
        lines += _elements("add", name, added)
    for name in old.chains:
        if name not in new.chains:
            lines += [f"flush chain {TABLE} {name}", f"delete chain {TABLE} {name}"]
    lines += [f"delete set {TABLE} {name}" for name in old.sets if name not in new.sets]
    return "\n".join(lines) + "\n" if lines else ""


def _elements(verb: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    listed = sorted(elements)
    for start in range(0, len(listed), _MAX_LINE):
        yield f"{verb} element {TABLE} {name} {{ {', '.join(listed[start : start + _MAX_LINE])} }}"
