"""What each pod contributes to a Service, worked out anew only for pods that changed.

A Service of a thousand pods is looked at whenever one of them changes; the other nine hundred and ninety-nine are what
they were. Objects of a cache are frozen, so the same object means the same contribution.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from orca.api.objects import Obj, key, uid

T = TypeVar("T")

Work = Callable[[Obj, Obj, str], T]
"""(Service, pod, zone of its node) -> contribution; pure."""


class Contributions(Generic[T]):
    """By Service and pod. A Service that changed is worked out from the start."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._kept: dict[str, tuple[Obj, dict[str, tuple[Obj, str, T]]]] = {}

    def of(self, service: Obj, pods: Iterable[tuple[Obj, str]]) -> list[T]:
        """In the order of `pods`, which come with the zones of their nodes."""
        found = self._kept.get(key(service))
        before = found[1] if found is not None and found[0] is service else {}
        after: dict[str, tuple[Obj, str, T]] = {}
        for pod, zone in pods:
            identity = uid(pod)
            known = before.get(identity)
            if known is None or known[0] is not pod or known[1] != zone:
                known = (pod, zone, self._work(service, pod, zone))
            after[identity] = known
        self._kept[key(service)] = (service, after)
        return [contribution for _, _, contribution in after.values()]

    def forget(self, service_key: str) -> None:
        """The Service is gone."""
        self._kept.pop(service_key, None)
