"""What the kernel of this host has for one port of a Service, read for people who look for a fault.

Not what was written: what is there now, with the packets it has seen. Each mode reads its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointSeen:
    """One way the kernel may send a connection; counts are None where the kernel keeps none."""

    ip: str
    port: int
    packets: int | None = None
    """Packets that began a connection to it: later ones of a connection pass no rule."""
    connections: int | None = None
    """Connections it has now."""


@dataclass(frozen=True, slots=True)
class RulesSeen:
    """``present``: the kernel knows the address and port. ``refuses``: it turns connections away."""

    mode: str
    present: bool = False
    packets: int | None = None
    """Packets that began a connection to the address and port."""
    refuses: bool = False
    endpoints: tuple[EndpointSeen, ...] = ()
    text: tuple[str, ...] = ()
    """The rules, as the mode's own tool prints them."""
