"""Which pods a PodDisruptionBudget protects at the moment."""

from __future__ import annotations

from orca.api.builtin import PODDISRUPTIONBUDGETS
from orca.api.objects import Obj, namespace
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

    def protects(self, placed: Placed) -> bool:
        """Whether ending the pod now would violate a budget."""
        for budget in self.informer.by_index("namespace", placed.namespace):
            if int((budget.get("status") or {}).get("disruptionsAllowed") or 0) > 0:
                continue
            if from_label_selector(budget["spec"].get("selector")).matches(placed.labels):
                return True
        return False
