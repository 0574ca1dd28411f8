"""Which pods a PodDisruptionBudget protects at the moment."""

from __future__ import annotations

from collections.abc import Iterable

from orca.api.builtin import PODDISRUPTIONBUDGETS
from orca.api.objects import Obj, namespace, uid
from orca.api.selectors import from_label_selector
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer
from orca.scheduler.snapshot import Placed


def _space(obj: Obj) -> list[str]:
    return [namespace(obj)]


class Budgets:
    """Knows every budget and what it still allows."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.informer = Informer(client, PODDISRUPTIONBUDGETS, clock=clock, indexers={"namespace": _space})

    def violating(self, pods: Iterable[Placed]) -> set[str]:
        """Of pods that would all be ended, in this order, the uids of those for whom a budget has nothing left."""
        if not len(self.informer):
            return set()
        left: dict[str, int] = {}
        found = set()
        for placed in pods:
            for budget in self.informer.by_index("namespace", placed.namespace):
                if not placed.labels or not _about(budget, placed):
                    continue
                status = budget.get("status") or {}
                if placed.key.partition("/")[2] in (status.get("disruptedPods") or {}):
                    # Its end is counted already.
                    continue
                allowed = left.setdefault(uid(budget), int(status.get("disruptionsAllowed") or 0)) - 1
                left[uid(budget)] = allowed
                if allowed < 0:
                    found.add(placed.uid)
        return found


def _about(budget: Obj, placed: Placed) -> bool:
    selector = from_label_selector((budget.get("spec") or {}).get("selector"))
    return not selector.empty and selector.matches(placed.labels)
