"""A step of an explanation, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """``NOTE``: nothing is wrong, but it is worth knowing."""

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Step:
    """``stage``: pod, name, dns, service, endpoints, rules, policy, listening, connection, reply. ``fix`` is the
    smallest thing that helps."""

    stage: str
    outcome: Outcome
    says: str
    why: str = ""
    fix: str = ""
    details: tuple[str, ...] = ()


def ok(stage: str, says: str, *details: str) -> Step:
    return Step(stage, Outcome.OK, says, details=details)


def note(stage: str, says: str, *details: str, why: str = "") -> Step:
    return Step(stage, Outcome.NOTE, says, why, details=details)


def unknown(stage: str, says: str, why: str, *details: str) -> Step:
    return Step(stage, Outcome.UNKNOWN, says, why, details=details)


def broken(stage: str, says: str, why: str, fix: str, *details: str) -> Step:
    return Step(stage, Outcome.BROKEN, says, why, fix, details)
