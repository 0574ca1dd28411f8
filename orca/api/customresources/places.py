"""Where in an object something is, as a text that is made when it is told.

Whoever sends an object chooses how long its keys are and how much stands below them: paths that are made for all of
that would be a million times as long as the object.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from orca.api.errors import FieldError

MOST_TOLD = 1 << 20
"""Characters of paths and texts that are made of one object."""

Path = Any
"""A text or a Place: who writes it into a text or a FieldError makes it one."""


class Place:
    """What is one step below another; ``str()`` is its path."""

    __slots__ = ("_outer", "_step", "length")

    def __init__(self, outer: Path, step: str) -> None:
        self._outer = outer
        self._step = step
        self.length: int = len(step) + (outer.length if outer.__class__ is Place else len(outer))

    def __str__(self) -> str:
        steps, at = [], self
        while at.__class__ is Place:
            steps.append(at._step)
            at = at._outer
        return "".join((str(at), *reversed(steps)))


def member(path: Path, name: str) -> Place:
    """That of a member of the object at ``path``, which is "" for the whole."""
    return Place(path, f".{name}" if path else name)


def item(path: Path, index: int | str) -> Place:
    """That of an item of the list at ``path``."""
    return Place(path, f"[{index}]")


class Told:
    """Paths: of the first, where they are more than anybody should be told."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._length = 0

    def add(self, path: Place) -> None:
        if self._length < MOST_TOLD:
            self._length += path.length
            self.paths.append(str(path))


def told(errors: Iterable[FieldError]) -> list[FieldError]:
    """The errors, with texts for their places; the first, where they are more than anybody should be told."""
    found: list[FieldError] = []
    length = 0
    for error in errors:
        found.append(error if isinstance(error.field, str) else replace(error, field=str(error.field)))
        length += len(found[-1].field) + len(error.detail)
        if length > MOST_TOLD:
            break
    return found
