"""The table as a person reads it, in nft's language. Pure. The kernel is told the same without words (``state.py``);
this is for golden files, which the real ``nft`` judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agents.network.nftables.sets import Element, SetType, show
from agents.network.nftables.wire import HOOKS, BaseChain, Rule
from agents.proxy.model import Family
from agents.proxy.nftables.layout import BASE_CHAINS, TABLE, sets
from agents.proxy.nftables.render import Fragment


def table(family: Family, wanted: Fragment) -> str:
    """A whole table, as ``nft -f`` reads it."""
    kinds = {**sets(family), **wanted.sets}
    by_set: dict[str, list[Element]] = {}
    for (name, _), element in sorted(wanted.elements.items()):
        by_set.setdefault(name, []).append(element)
    lines = [f"table {'ip' if family == 4 else 'ip6'} {TABLE} {{"]
    for name, kind in kinds.items():
        lines += _block("map" if kind.data else "set", name, _set_lines(kind, by_set.get(name, ())))
    # A chain that leads to another must come after it, in a file that is read from its top.
    for name, rules in _ordered(wanted.chains).items():
        lines += _block("chain", name, [*_base_lines(BASE_CHAINS.get(name)), *(rule_text(rule) for rule in rules)])
    return "\n".join((*lines, "}", ""))


def rule_text(rule: Rule) -> str:
    return " ".join(statement.text for statement in rule)


def element_text(kind: SetType, element: Element) -> str:
    key = show(kind.key, element.key)
    if element.until:
        ends = show(kind.key, element.until).split(" . ")
        key = " . ".join(
            first if first == last else f"{first}-{last}" for first, last in zip(key.split(" . "), ends, strict=True)
        )
    comment = f' comment "{element.comment}"' if element.comment else ""
    if not kind.data:
        return f"{key}{comment}"
    value = element.data if isinstance(element.data, str) else show(kind.data, element.data)
    return f"{key}{comment} : {value}"


def _block(what: str, name: str, lines: Iterable[str]) -> list[str]:
    return [f"  {what} {name} {{", *(f"    {line}" for line in lines), "  }"]


def _set_lines(kind: SetType, elements: Iterable[Element]) -> list[str]:
    shown = [element_text(kind, element) for element in elements]
    held = ["elements = {", *(f"  {each}," for each in shown), "}"] if shown else []
    return [*kind.lines(), *held]


def _base_lines(base: BaseChain | None) -> list[str]:
    if base is None:
        return []
    return [f"type {base.kind} hook {HOOKS[base.hook]} priority {base.priority}; policy accept;"]


def _ordered(chains: Mapping[str, tuple[Rule, ...]]) -> dict[str, tuple[Rule, ...]]:
    return dict(sorted(chains.items()))
