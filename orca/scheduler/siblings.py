"""Which pods belong together: those of one service or controller, which default spreading keeps apart."""

from __future__ import annotations

from orca.api.builtin import REPLICASETS, REPLICATIONCONTROLLERS, SERVICES, STATEFULSETS
from orca.api.objects import Obj, controller_of, labels, namespace
from orca.api.selectors import Requirement, Selector, from_label_selector, from_map
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer

ANSWERS = 10_000


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
        self._known: dict[object, Selector | None] = {}
        for informer in self.informers:
            informer.on_add(lambda _: self._known.clear())
            informer.on_update(self._changed)
            informer.on_delete(lambda _: self._known.clear())

    @property
    def informers(self) -> list[Informer]:
        return [self._services, *self._controllers.values()]

    def _changed(self, old: Obj, new: Obj) -> None:
        if (old.get("spec") or {}).get("selector") != (new.get("spec") or {}).get("selector"):
            self._known.clear()

    def selector(self, pod: Obj) -> Selector | None:
        """Selects a pod and its siblings; None when it has none. Worked out once for pods that are alike."""
        owner = controller_of(pod)
        question = (
            namespace(pod),
            (owner["kind"], owner["name"]) if owner else None,
            tuple(sorted(labels(pod).items())),
        )
        if question not in self._known:
            if len(self._known) >= ANSWERS:
                self._known.clear()
            self._known[question] = self._selector(pod)
        return self._known[question]

    def _selector(self, pod: Obj) -> Selector | None:
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
