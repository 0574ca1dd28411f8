"""The text of an nginx configuration while it is written: lines, and for each whose it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

GENERATION = "@generation@"
"""Stands for the digest of the text in the text itself."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """``owners`` has for each line the Ingress that it comes from, or ""."""

    text: str
    owners: tuple[str, ...]
    generation: str
    """A digest of the text, which the running nginx tells."""

    def culprit(self, line: int) -> str:
        """Whose line it is, counted from 1."""
        return self.owners[line - 1] if 0 < line <= len(self.owners) else ""


class Page:
    """Lines with indentation; ``owner`` is noted beside each."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._owners: list[str] = []
        self._depth = 0
        self.owner = ""

    def __call__(self, *directive: str) -> None:
        self._put(" ".join(directive) + ";")

    def lua(self, directive: str, call: str) -> None:
        """A call of a function of ``balancer.lua``."""
        self._put(f'{directive} {{ require("balancer").{call} }}')

    def comment(self, text: str) -> None:
        self._put(f"# {text}")

    def open(self, *block: str) -> None:
        self._put(" ".join((*block, "{")))
        self._depth += 1

    def close(self) -> None:
        self._depth -= 1
        self._put("}")

    def _put(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)
        self._owners.append(self.owner)

    def finished(self) -> Rendered:
        text = "\n".join(self._lines) + "\n"
        generation = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Rendered(text.replace(GENERATION, generation), tuple(self._owners), generation)


def lua_string(text: str) -> str:
    """A string of Lua; nginx reads the text of a ``_block`` as Lua's lexer would."""
    return '"' + "".join(char if char.isalnum() or char in "/._-" else f"\\{ord(char):03d}" for char in text) + '"'
