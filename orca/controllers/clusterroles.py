"""Aggregated ClusterRoles: their rules are those of all roles their label selectors match."""

from collections.abc import Sequence

from orca.api.builtin import CLUSTERROLES
from orca.api.objects import Obj, key, labels, name
from orca.api.selectors import from_label_selector
from orca.controllers.harness import DONE, Context, Controller, Outcome


def aggregated(role: Obj, roles: Sequence[Obj]) -> list[Obj]:
    """The rules a role should have: each once, in the order of the roles' names."""
    rules: list[Obj] = []
    for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
        parsed = from_label_selector(selector)
        for other in sorted(roles, key=name):
            if name(other) != name(role) and parsed.matches(labels(other)):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregationController(Controller):
    """Any change of a role may concern every aggregated one; there are a handful."""

    name = "clusterrole-aggregation-controller"
    resource = CLUSTERROLES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._roles = self.caches.of(CLUSTERROLES)
        self._roles.informer.on_change(self._changed)

    def _changed(self, role: Obj) -> None:
        del role
        for candidate in self._roles.informer.list():
            if candidate.get("aggregationRule"):
                # Roles change in crowds, at the start and when somebody installs something.
                self.queue.add_after(key(candidate), 0.1)

    async def sync(self, key: str) -> Outcome:
        """One aggregated role."""
        role = self._roles.get(key)
        if role is None or not role.get("aggregationRule"):
            return DONE
        rules = aggregated(role, self._roles.all())
        if rules != (role.get("rules") or []):
            await self._roles.update({**role, "rules": rules})
        return DONE
