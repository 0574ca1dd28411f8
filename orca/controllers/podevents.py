"""Which owners a change of a pod concerns: the one that controls it, or for an orphan all that may adopt it."""

from collections.abc import Callable

from orca.api.objects import Obj, controller_of, key, labels, namespace, owner_references
from orca.api.selectors import Selector
from orca.controllers.cache import Cache
from orca.controllers.harness import owner_key


def follow_pods(
    pods: Cache, owners: Cache, *, kind: str, selector: Callable[[Obj], Selector], wake: Callable[[str], None]
) -> None:
    """Call `wake` with the key of each owner (of that kind, in `owners`) whose pods have changed.

    A pod that changes hands concerns its former owner, too.
    """

    def changed(pod: Obj) -> None:
        if owners.empty:
            return
        if controller_of(pod) is not None:
            found = owner_key(owners, kind, pod)
            if found is not None:
                wake(found)
            return
        for candidate in owners.by_index("namespace", namespace(pod)):
            if selector(candidate).matches(labels(pod)):
                wake(key(candidate))

    def updated(old: Obj, new: Obj) -> None:
        if owner_references(old) != owner_references(new) and controller_of(old) != controller_of(new):
            changed(old)
        changed(new)

    pods.informer.on_add(changed)
    pods.informer.on_update(updated)
    pods.informer.on_delete(changed)
