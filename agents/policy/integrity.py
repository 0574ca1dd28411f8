"""Is the table still as it was written? The kernel counts changes of all tables, so that looking is seldom needed."""

from __future__ import annotations

import re

from agents.policy.kernel import Kernel
from agents.policy.render import Ruleset

ELEMENTS_SECONDS = 15.0
"""Between two looks at all elements: somebody may write rules of his own all the time."""
_OPENS = re.compile(r"^\t(set|map) (\S+) \{$")


class Integrity:
    """Remembers how the table looked after it was written."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._shape = ""
        self._seen: int | None = None
        self._seen_in_full: tuple[int | None, float] = (None, 0.0)

    async def note(self, old: Ruleset | None, new: Ruleset) -> None:
        """``new`` was just written in place of ``old`` (None: of whatever was there)."""
        if old is None or old.chains.keys() != new.chains.keys() or old.sets.keys() != new.sets.keys():
            self._shape = await self._kernel.shape()
        self._seen = self._kernel.changes()

    async def harm(self, written: Ruleset, now: float) -> str:
        """What is not as it was written, "" when nothing is. ``now`` in seconds. Raises ``KernelError``."""
        changes = self._kernel.changes()
        if changes is not None and changes == self._seen:
            return ""
        shape = await self._kernel.shape()
        if shape != self._shape:
            return "the table is not as it was written" if shape else "the table is gone"
        at, when = self._seen_in_full
        if changes is None or (at != changes and now - when >= ELEMENTS_SECONDS):
            empty = emptied(await self._kernel.listing(), written)
            if empty:
                return f"emptied: {', '.join(empty)}"
            self._seen_in_full = (changes, now)
            self._seen = changes
        return ""


def emptied(listing: str, written: Ruleset) -> list[str]:
    """Sets and maps that have no element in a listing of the table, but were written with some."""
    full: set[str] = set()
    name = ""
    for line in listing.splitlines():
        if opened := _OPENS.match(line):
            name = opened.group(2)
        elif line.startswith("\t\telements = "):
            full.add(name)
    expected = [one for one, elements in written.elements.items() if elements]
    expected += [one for one, led in written.maps.items() if led]
    return sorted(one for one in expected if one not in full)
