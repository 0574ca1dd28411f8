"""What of a host pods may have: its capacity less what is kept for the system, the agent and eviction. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/cm`` (node_container_manager).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.resources.amounts import HUGE_PAGES, Amounts, add, amounts_of
from agents.resources.limits import Limits, shares_of
from orca.api.quantity import parse_int

PROCESSES = "pid"
_SIGNALS = {"memory.available": "memory", "nodefs.available": "ephemeral-storage"}
DEFAULT_EVICTION = {"memory.available": "100Mi", "nodefs.available": "10%"}


class ReservationError(ValueError):
    """More is reserved than there is."""


@dataclass(frozen=True, slots=True)
class Reservations:
    """``system`` and ``kube`` are quantities by resource, ``eviction`` thresholds (quantities or percentages) by
    signal, as configured. ``cpus`` is how many are named one by one, which then count instead of the others' cpu."""

    system: Mapping[str, str] = field(default_factory=dict)
    kube: Mapping[str, str] = field(default_factory=dict)
    eviction: Mapping[str, str] = field(default_factory=lambda: DEFAULT_EVICTION)
    cpus: int = 0

    def of(self, part: str) -> Amounts:
        """What is reserved for ``system`` or ``kube``."""
        found = amounts_of(dict(self.system if part == "system" else self.kube))
        if self.cpus:
            found.pop("cpu", None)
            if part == "system":
                found["cpu"] = 1000 * self.cpus
        return found

    def held_back(self, capacity: Amounts) -> Amounts:
        """What eviction wants to keep free."""
        found: Amounts = {}
        for signal, resource in _SIGNALS.items():
            text = self.eviction.get(signal, "")
            if text.endswith("%"):
                found[resource] = int(capacity.get(resource, 0) * float(text[:-1]) / 100)
            elif text:
                found[resource] = parse_int(text)
        return found

    def allocatable(self, capacity: Amounts) -> Amounts:
        """What pods may ask for: the node's ``status.allocatable``."""
        return self._less(capacity, self.of("system"), self.of("kube"), self.held_back(capacity))

    def enforceable(self, capacity: Amounts) -> Amounts:
        """What pods may use together: eviction is to act before the kernel does."""
        return self._less(capacity, self.of("system"), self.of("kube"))

    def check(self, capacity: Amounts) -> None:
        """Raises ReservationError."""
        total: Amounts = {}
        for part in (self.of("system"), self.of("kube"), self.held_back(capacity)):
            add(total, part)
        found = [
            f'Resource "{resource}" has a reservation of {amount} but capacity of {capacity[resource]}. '
            "Expected capacity >= reservation."
            for resource, amount in sorted(total.items())
            if resource in capacity and amount > capacity[resource]
        ]
        if found:
            raise ReservationError(f"invalid Node Allocatable configuration. {' '.join(found)}")

    @staticmethod
    def _less(capacity: Amounts, *parts: Amounts) -> Amounts:
        left = {
            resource: max(amount - sum(part.get(resource, 0) for part in parts), 0)
            for resource, amount in capacity.items()
        }
        if "memory" in left:
            # Huge pages are set aside: nobody has them as ordinary memory.
            pages = sum(amount for resource, amount in left.items() if resource.startswith(HUGE_PAGES))
            left["memory"] = max(left["memory"] - pages, 0)
        return left


def limits_for(amounts: Amounts) -> Limits:
    """Of a cgroup that may use these amounts together; never a quota of cpu."""
    return Limits(
        cpu_shares=shares_of(amounts["cpu"]) if "cpu" in amounts else None,
        memory=amounts.get("memory"),
        pids=amounts.get(PROCESSES),
    )
