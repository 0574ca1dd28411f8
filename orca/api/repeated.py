"""Members that occur twice in a JSON document, told among its unknown ones as who reads it in one go meets them.

Whoever sends the document chooses what is in it, and waits for nobody: work grows with its length alone. So paths are
made of their steps only for what is told, and there may be no more of that than upstream's decoder collects.
Reference: sigs.k8s.io/json.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

MAX_STRICT_ERRORS = 100


class _Members(list[tuple[str, Any]]):
    """An object with all its members, repeated ones too."""


class _Place:
    """An object or a list of a document; one for all that have the same path. `start` and `end` are the part of the
    sorted unknown paths that lie inside."""

    __slots__ = ("_inner", "_outer", "_step", "end", "length", "start")

    def __init__(self, outer: _Place | None, step: str, start: int, end: int) -> None:
        self._outer = outer
        self._step = step
        self._inner: dict[str, _Place] = {}
        self.start = start
        self.end = end
        self.length: int = len(step) if outer is None else outer.length + len(step)

    def path(self, name: str) -> str:
        """That of a member."""
        steps = [name]
        place: _Place | None = self
        while place is not None:
            steps.append(place._step)
            place = place._outer
        return "".join(reversed(steps))

    def find(self, name: str, unknown: list[str]) -> str | None:
        """The unknown path of a member; None for a known one."""
        at = self._from(name, unknown)
        if at < self.end and len(unknown[at]) == self.length + len(name) and unknown[at].endswith(name):
            return unknown[at]
        return None

    def into(self, step: str, mark: str, unknown: list[str]) -> _Place:
        """What is inside of a member or an item; `mark` is what stands before a step in there."""
        found = self._inner.get(step + mark)
        if found is None:
            start = self._from(step + mark, unknown)
            end = self._from(step + chr(ord(mark) + 1), unknown)
            found = self._inner[step + mark] = _Place(self, step + mark, start, end)
        return found

    def _from(self, text: str, unknown: list[str]) -> int:
        """Where the unknown paths that go on with `text` begin."""
        if self.start == self.end:
            return self.start
        first, last = self.length, self.length + len(text) + 1
        return bisect_left(unknown, text, self.start, self.end, key=lambda path: path[first:last])


class Repeated(list[str]):
    """``duplicate field "spec.replicas"`` for every JSON member that occurs twice, in the document's order."""

    def __init__(self, document: Any) -> None:
        super().__init__(_read(document, {}))
        self._document = document

    def among(self, unknown: Sequence[str]) -> list[str]:
        """These and texts about ``unknown`` fields as a reader of the document meets them, who does not look into what
        is unknown, nor cares how often it occurs."""
        return _read(self._document, {text.partition('"')[2][:-1]: text for text in unknown})


def duplicate_fields(raw: bytes) -> Repeated:
    """What occurs twice in a JSON document. Raises ValueError, RecursionError."""
    return Repeated(json.loads(raw, object_pairs_hook=_Members))


def _read(document: Any, texts: dict[str, str]) -> list[str]:
    """What is repeated, and where the paths are met ``texts``, by path, about what is unknown."""
    unknown = sorted(texts)
    told: dict[tuple[_Place, str], str] = {}
    root = _Place(None, "" if isinstance(document, _Members) else "[", 0, len(unknown))
    inside = [_opened(document, root)] if isinstance(document, list) else []
    while inside and len(told) < MAX_STRICT_ERRORS:
        place, seen, rest = inside[-1]
        step, value = next(rest, _END)
        if step is None:
            inside.pop()
            continue
        if seen is not None:
            again = step in seen
            path = seen[step] if again else seen.setdefault(step, place.find(step, unknown))
            if (again or path is not None) and (place, step) not in told:
                told[place, step] = texts[path] if path is not None else f'duplicate field "{place.path(step)}"'
            if path is not None:
                continue
        if value and isinstance(value, list):
            inside.append(_opened(value, place.into(step, "." if isinstance(value, _Members) else "[", unknown)))
    return list(dict.fromkeys((*told.values(), *texts.values())))[:MAX_STRICT_ERRORS]


_Opened = tuple[_Place, dict[str, str | None] | None, Iterator[tuple[str | None, Any]]]
"""What is being read: where it is; of an object the members met, with those paths that are unknown; and the rest."""
_END = (None, None)


def _opened(value: list[Any], place: _Place) -> _Opened:
    if isinstance(value, _Members):
        return place, {}, iter(value)
    return place, None, ((f"{index}]", item) for index, item in enumerate(value))
