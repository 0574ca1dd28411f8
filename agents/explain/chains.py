"""Services in the output of ``iptables-save -c``: from the rule for an address and port to the endpoints. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agents.proxy.seen import EndpointSeen, RulesSeen

_RULE = re.compile(r"^\[(?P<packets>\d+):\d+\] -A (?P<chain>\S+) (?P<rule>.*)$")
_JUMP = re.compile(r"(?:-j|-g) (KUBE-(?:SVC|SVL|SEP|EXT|FW)-\S+)")
_DNAT = re.compile(r"-j DNAT --to-destination (\S+)")

Rules = dict[str, list[tuple[int, str]]]
"""chain -> (packets, rule)"""


def parse(text: str) -> Rules:
    """Chains of services (``KUBE-…``); others are left out."""
    found: Rules = {}
    for line in text.splitlines():
        if "-A KUBE-" not in line:
            continue
        rule = _RULE.match(line)
        if rule:
            found.setdefault(rule["chain"], []).append((int(rule["packets"]), rule["rule"]))
    return found


def seen(nat: str, filters: str, ip: str, port: int, protocol: str) -> RulesSeen:
    """What the tables nat and filter have for an address and port."""
    rules = parse(nat)
    text: list[str] = []
    endpoints: list[EndpointSeen] = []
    packets, present = 0, False
    for count, rule in rules.get("KUBE-SERVICES", ()):
        jump = _JUMP.search(rule)
        if jump is None or not _matches(rule, ip, port, protocol):
            continue
        present, packets = True, packets + count
        text.append(f"[{count}] -A KUBE-SERVICES {rule}")
        endpoints += _follow(rules, jump[1], text)
    refusing = [
        (count, rule)
        for count, rule in parse(filters).get("KUBE-SERVICES", ())
        if _matches(rule, ip, port, protocol) and ("-j REJECT" in rule or "-j DROP" in rule)
    ]
    text += [f"[{count}] -A KUBE-SERVICES {rule}" for count, rule in refusing]
    packets += sum(count for count, _ in refusing)
    return RulesSeen(
        "iptables",
        present=present or bool(refusing),
        packets=packets if present or refusing else None,
        refuses=bool(refusing),
        endpoints=tuple({(each.ip, each.port): each for each in endpoints}.values()),
        text=tuple(text),
    )


def _follow(rules: Rules, chain: str, text: list[str]) -> Iterable[EndpointSeen]:
    for count, rule in rules.get(chain, ()):
        text.append(f"[{count}] -A {chain} {rule}")
        target = _DNAT.search(rule)
        jump = _JUMP.search(rule)
        if target is not None:
            ip, _, port = target[1].rpartition(":")
            yield EndpointSeen(ip.strip("[]"), int(port), packets=count)
        elif jump is not None and jump[1] != chain and f"-A {jump[1]} " not in "".join(text):
            yield from _follow(rules, jump[1], text)


def _matches(rule: str, ip: str, port: int, protocol: str) -> bool:
    words = rule.split()
    wanted = f"{ip}/{128 if ':' in ip else 32}"
    return (
        _after(words, "-d") in (wanted, ip)
        and _after(words, "-p") == protocol.lower()
        and _after(words, "--dport") == str(port)
    )


def _after(words: list[str], flag: str) -> str:
    try:
        return words[words.index(flag) + 1]
    except (ValueError, IndexError):
        return ""
