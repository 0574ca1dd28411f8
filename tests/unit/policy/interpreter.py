"""A tiny nft: takes the commands that are rendered and judges packets by them. What it does not know is an error."""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass, field

FAMILY = {"ip": 4, "ip6": 6}
PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True)
class Packet:
    """As the table sees it. ``state``: "" for packets of who opened the connection, "reply" or "related"."""

    source: str
    target: str
    protocol: str = "tcp"
    port: int = 80
    state: str = ""
    local: bool = False

    @property
    def family(self) -> int:
        return ipaddress.ip_address(self.source).version


@dataclass
class Table:
    """One table; ``apply`` and ``judge``."""

    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[str, set[str]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    present: bool = False
    touched: int = 0
    """Elements, rules, chains and sets that commands named so far."""

    def apply(self, commands: str) -> None:
        lines = iter(commands.splitlines())
        for line in lines:
            words = line.split()
            if line.startswith("table "):
                self._frame(lines)
                continue
            assert line.startswith((f"{words[0]} {words[1]} inet orca-policy",)), line
            rest = line.split("inet orca-policy", 1)[1].strip()
            getattr(self, f"_{words[0]}_{words[1]}")(rest)

    def _frame(self, lines: object) -> None:
        chain = ""
        for line in lines:  # type: ignore[attr-defined]
            text = line.strip()
            if line == "}":
                return
            if text.startswith("map "):
                self.maps[text.split()[1]] = {}
            elif text.startswith("set "):
                self.elements[text.split()[1]] = set()
            elif text.startswith("chain "):
                chain = text.split()[1]
                self.chains[chain] = []
            elif text == "}":
                chain = ""
            elif chain and not text.startswith("type filter hook"):
                self.chains[chain].append(text)

    def _add_table(self, rest: str) -> None:
        self.present = True

    def _delete_table(self, rest: str) -> None:
        assert self.present
        self.sets, self.elements, self.maps, self.chains = {}, {}, {}, {}

    def _add_set(self, rest: str) -> None:
        name, definition = rest.split(" ", 1)
        assert name not in self.elements, name
        self.touched += 1
        self.sets[name], self.elements[name] = definition, set()

    def _delete_set(self, rest: str) -> None:
        assert not any(f"@{rest} " in rule for rules in self.chains.values() for rule in rules), rest
        del self.sets[rest], self.elements[rest]
        self.touched += 1

    def _add_chain(self, rest: str) -> None:
        assert rest not in self.chains, rest
        self.chains[rest] = []
        self.touched += 1

    def _flush_chain(self, rest: str) -> None:
        self.chains[rest] = []

    def _delete_chain(self, rest: str) -> None:
        assert self.chains[rest] == []
        assert not any(target == f"jump {rest}" for led in self.maps.values() for target in led.values()), rest
        del self.chains[rest]
        self.touched += 1

    def _add_rule(self, rest: str) -> None:
        chain, rule = rest.split(" ", 1)
        for name in re.findall(r"@(\S+)", rule):
            assert name in self.elements, name
        self.chains[chain].append(rule)
        self.touched += 1

    def _listed(self, rest: str) -> tuple[str, list[str]]:
        name, listed = rest.split(" ", 1)
        found = [one.strip() for one in listed.strip("{} ").split(",")]
        self.touched += len(found)
        return name, found

    def _add_element(self, rest: str) -> None:
        name, listed = self._listed(rest)
        for one in listed:
            if name in self.maps:
                address, target = one.split(" : ")
                assert address not in self.maps[name], one
                assert target.removeprefix("jump ") in self.chains, target
                self.maps[name][address] = target
            else:
                assert one not in self.elements[name], one
                self.elements[name].add(one)

    def _delete_element(self, rest: str) -> None:
        name, listed = self._listed(rest)
        for one in listed:
            if name in self.maps:
                del self.maps[name][one]
            else:
                self.elements[name].remove(one)

    # --- packets -----------------------------------------------------------------------------------------------------

    def passes(self, packet: Packet, hook: str = "forward") -> bool:
        """Whether a packet gets through a hook."""
        return not self.present or not self.chains or self._run(hook, packet) != "drop"

    def _run(self, chain: str, packet: Packet) -> str:
        for rule in self.chains[chain]:
            verdict = self._rule(shlex.split(rule), packet)
            if verdict:
                return "" if verdict == "return" else verdict
        return ""

    def _rule(self, words: list[str], packet: Packet) -> str:
        text = " ".join(words)
        while words:
            word = words.pop(0)
            if word in ("accept", "drop", "return"):
                return word
            if word == "counter":
                continue
            if word == "ct":
                kind, value = words.pop(0), words.pop(0)
                assert (kind, value) in (("direction", "reply"), ("state", "related")), text
                if packet.state != value:
                    return ""
            elif word == "fib":
                assert words[:3] == ["saddr", "type", "local"], text
                del words[:3]
                if not packet.local:
                    return ""
            elif word in FAMILY:
                if FAMILY[word] != packet.family:
                    return ""
                key, verb = self._key(word, words, packet)
                name = words.pop(0).removeprefix("@")
                if verb == "vmap":
                    target = self.maps[name].get(key)
                    return self._run(target.removeprefix("jump "), packet) if target else ""
                if not self._contains(name, key):
                    return ""
            elif word == "meta":
                assert words.pop(0) == "l4proto", text
                if words.pop(0) != packet.protocol:
                    return ""
            elif word in PROTOCOLS:
                assert words.pop(0) == "dport", text
                if word != packet.protocol or not self._port(words, packet.port):
                    return ""
            else:
                raise AssertionError(f"{word} in {text}")
        raise AssertionError(f"no verdict: {text}")

    def _key(self, word: str, words: list[str], packet: Packet) -> tuple[str, str]:
        parts = []
        words.insert(0, word)
        while True:
            first, second = words.pop(0), words.pop(0)
            parts.append(
                {
                    "saddr": packet.source,
                    "daddr": packet.target,
                    "l4proto": packet.protocol,
                    "dport": str(packet.port),
                }[second]
            )
            assert first in ("ip", "ip6", "meta", "th"), first
            if words[0] == ".":
                words.pop(0)
                continue
            verb = "vmap" if words[0] == "vmap" else "in"
            if verb == "vmap":
                words.pop(0)
            return " . ".join(parts), verb

    def _contains(self, name: str, key: str) -> bool:
        if "interval" not in self.sets.get(name, ""):
            return key in self.elements[name]
        wanted = ipaddress.ip_address(key)
        for one in self.elements[name]:
            first, _, last = one.partition("-")
            if ipaddress.ip_address(first) <= wanted <= ipaddress.ip_address(last or first):  # type: ignore[operator]
                return True
        return False

    def _port(self, words: list[str], port: int) -> bool:
        listed = [words.pop(0)]
        if listed == ["{"]:
            listed = []
            while (word := words.pop(0)) != "}":
                listed.append(word.rstrip(","))
        ranges = [one.partition("-") for one in listed]
        assert len(set(listed)) == len(listed)
        return any(int(first) <= port <= int(last or first) for first, _, last in ranges)
