"""Table columns and cells of every kind, as ``kubectl get`` prints them.

Pure: the time that ages are counted from is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from orca.api.printing import (
    admissionregistration,
    apps,
    batch,
    core,
    events,
    extensions,
    metrics,
    networking,
    nodes,
    pods,
    scheduling,
    storage,
)
from orca.api.printing.columns import AGE, NAME, Cells, Obj, Printer, find, name, of_row
from orca.api.printing.duration import since

if TYPE_CHECKING:
    from orca.api.resources import Resource

__all__ = ["columns", "row_conditions", "table"]

# Importing a room's module registers its printers.
_ROOMS = (
    admissionregistration,
    apps,
    batch,
    core,
    events,
    extensions,
    metrics,
    networking,
    nodes,
    pods,
    scheduling,
    storage,
)


def _plain(obj: Obj, now: datetime) -> Cells:
    return [name(obj), since(obj["metadata"].get("creationTimestamp"), now)]


_DEFAULT = Printer((NAME.definition(), AGE.definition()), _plain)


def _printer(resource: Resource) -> Printer:
    if resource.custom:
        return of_row(resource.group, resource.version, resource.kind) or _DEFAULT
    return find(resource.group, resource.kind) or _DEFAULT


def columns(resource: Resource) -> list[Obj]:
    """The TableColumnDefinitions of *resource*; NAME and AGE for a kind without its own."""
    return list(_printer(resource).definitions)


def table(resource: Resource, objs: Iterable[Obj], now: datetime) -> tuple[list[Obj], list[Cells]]:
    """Columns of *resource* and one list of cells for each of *objs*, in their order.

    The cells are always those of ``-o wide``; clients hide columns whose priority is above 0.
    *now* is timezone-aware.
    """
    used = _printer(resource)
    render = used.render
    return list(used.definitions), [render(obj, now) for obj in objs]


def row_conditions(resource: Resource, obj: Obj) -> list[Obj]:
    """``conditions`` of the object's table row: finished pods say so, all else has none."""
    if resource.kind == "Pod" and resource.group == "":
        return pods.row_conditions(obj)
    return []
