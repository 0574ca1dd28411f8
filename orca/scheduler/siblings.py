"""Which pods belong together: those of one service or controller, which default spreading keeps apart."""

from __future__ import annotations

from orca.api.builtin import REPLICASETS, REPLICATIONCONTROLLERS, SERVICES, STATEFULSETS
from orca.api.objects import Obj, controller_of, labels, namespace
from orca.api.selectors import Requirement, Selector, from_label_selector, from_map
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer


def _space(obj: Obj) -> list[str]:
    return [namespace(obj)]


class Siblings:
    """Knows services and the controllers that make replicas."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._services = Informer(client, SERVICES, clock=clock, indexers={"namespace": _space})
        self._controllers = {
            "ReplicaSet": Informer(client, REPLICASETS, clock=clock),
            "StatefulSet": Informer(client, STATEFULSETS, clock=clock),
            "ReplicationController": Informer(client, REPLICATIONCONTROLLERS, clock=clock),
        }

    @property
    def informers(self) -> list[Informer]:
        return [self._services, *self._controllers.values()]

    def selector(self, pod: Obj) -> Selector | None:
        """Selects a pod and its siblings; None when it has none."""
        requirements: set[Requirement] = set()
        for service in self._services.by_index("namespace", namespace(pod)):
            selector = from_map(service["spec"].get("selector"))
            if selector.matches(labels(pod)):
                requirements.update(selector.requirements)
        owner = controller_of(pod)
        informer = self._controllers.get(owner["kind"]) if owner else None
        if owner and informer:
            controller = informer.get(f"{namespace(pod)}/{owner['name']}")
            wanted = ((controller or {}).get("spec") or {}).get("selector")
            if wanted:
                plain = owner["kind"] == "ReplicationController"
                requirements.update((from_map(wanted) if plain else from_label_selector(wanted)).requirements)
        if not requirements:
            return None
        return Selector(tuple(sorted(requirements, key=lambda one: (one.key, one.operator, sorted(one.values)))))
