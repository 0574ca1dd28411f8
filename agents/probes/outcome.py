"""What one try of a probe or hook comes to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one try; ``text`` is upstream's message for the event."""

    ok: bool
    text: str = ""
    unknown: bool = False
    """It could not be tried: says nothing about the container, and does not count."""
    warning: bool = False
    """It succeeded, but not as one might think."""
