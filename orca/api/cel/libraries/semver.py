"""Semantic versions. Reference: k8s.io/apiserver ``pkg/cel/library/semverlib.go``, semver.org 2.0.0."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare, fixed, traverse

_NUMBER = r"(0|[1-9]\d*)"
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_STRICT = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?")


@dataclass(frozen=True, slots=True)
class Semver:
    """A version; ``build`` does not count for order and equality."""

    numbers: tuple[int, int, int]
    pre: tuple[Any, ...]
    cel_type: ClassVar[str] = "kubernetes.Semver"

    @property
    def rank(self) -> Any:
        """Ordered as versions are: a release after all its pre-releases, numbers before words."""
        return (self.numbers, not self.pre, tuple((isinstance(p, str), p) for p in self.pre))


def parse(text: str, normalize: bool = False) -> Semver:
    """Raises CelError. ``normalize`` allows ``v1``, ``1.2`` and leading zeros."""
    wanted = _normalized(text) if normalize else text
    match = _STRICT.fullmatch(wanted)
    if match is None:
        raise CelError(f'Invalid character(s) found in version "{text}"' if text else "Version string empty")
    pre: list[Any] = []
    for part in (match[4] or "").split(".") if match[4] else ():
        if part.isdigit():
            if len(part) > 1 and part[0] == "0":
                raise CelError(f'Numeric PreRelease version must not contain leading zeroes "{part}"')
            pre.append(int(part))
        else:
            pre.append(part)
    return Semver((int(match[1]), int(match[2]), int(match[3])), tuple(pre))


def _normalized(text: str) -> str:
    text = text.strip().removeprefix("v")
    cut = next((i for i, char in enumerate(text) if char in "-+"), len(text))
    core, rest = text[:cut], text[cut:]
    parts = [part.lstrip("0") or "0" for part in core.split(".", 2)]
    # Only what has no suffix may leave parts away.
    while len(parts) < 3 and not rest:
        parts.append("0")
    return ".".join(parts) + rest


def _is_semver(text: str, normalize: bool = False) -> bool:
    try:
        parse(text, normalize)
    except CelError:
        return False
    return True


def _compare(one: Semver, other: Semver) -> int:
    return (one.rank > other.rank) - (one.rank < other.rank)


_PAIR = "kubernetes.Semver.(kubernetes.Semver)"
declare("semver", "(string) -> kubernetes.Semver; (string, bool) -> kubernetes.Semver", parse, traverse())
declare("isSemver", "(string) -> bool; (string, bool) -> bool", _is_semver, traverse())
for _place, _name in enumerate(("major", "minor", "patch")):
    declare(_name, "kubernetes.Semver.() -> int", lambda version, place=_place: version.numbers[place], fixed(1))
declare("isGreaterThan", f"{_PAIR} -> bool", lambda one, other: _compare(one, other) > 0, fixed(1))
declare("isLessThan", f"{_PAIR} -> bool", lambda one, other: _compare(one, other) < 0, fixed(1))
declare("compareTo", f"{_PAIR} -> int", _compare, fixed(1))
