"""StatefulSets: pods with names, addresses and claims of their own, started, scaled and updated in order.

`identity` makes a pod of an ordinal, `storage` its claims, `history` keeps revisions, `plan` says what to create and
delete, `controller` carries it out.
"""

from orca.controllers.statefulset.controller import StatefulSetController

__all__ = ["StatefulSetController"]
