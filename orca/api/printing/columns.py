"""How a kind declares its columns: one printer a kind, found by group and kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Obj = dict[str, Any]
Cell = str | int | bool | None
Cells = list[Cell]
Render = Callable[[Obj, datetime], Cells]

NAME_TEXT = "Name of the object, unique within its namespace and kind."
AGE_TEXT = "Time since the object was created."


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``type`` and ``format`` are OpenAPI's; ``priority`` 1 is shown by ``-o wide`` only."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""

    def definition(self) -> Obj:
        """The column as ``meta.k8s.io/v1`` TableColumnDefinition."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """Columns of one kind and the function that fills one row."""

    definitions: tuple[Obj, ...]
    render: Render


_PRINTERS: dict[tuple[str, str], Printer] = {}
_OF_ROWS: dict[tuple[str, str, str], Printer] = {}
"""Printers of custom kinds, whose versions may have different columns: by group, version and kind."""

NAME = Column("Name", format="name", description=NAME_TEXT)
AGE = Column("Age", description=AGE_TEXT)


def text(name: str, description: str = "") -> Column:
    """A column of strings."""
    return Column(name, description=description)


def integer(name: str, description: str = "") -> Column:
    """A column of integers."""
    return Column(name, type="integer", description=description)


def boolean(name: str, description: str = "") -> Column:
    """A column of truth values."""
    return Column(name, type="boolean", description=description)


def wide(column: Column) -> Column:
    """*column*, shown only by ``-o wide``."""
    return Column(column.name, column.type, 1, column.format, column.description)


def workload_columns(*, selector: bool = True) -> tuple[Column, ...]:
    """The wide columns every kind with a pod template ends with."""
    last = (wide(text("Selector", "Labels the pods are selected by.")),) if selector else ()
    return (
        wide(text("Containers", "Names of each container in the template.")),
        wide(text("Images", "Images referenced by each container in the template.")),
        *last,
    )


def printer(group: str, kind: str, *columns: Column) -> Callable[[Render], Render]:
    """Register the decorated function as printer of *kind* in *group*."""

    def register(render: Render) -> Render:
        _PRINTERS[group, kind] = Printer(tuple(c.definition() for c in columns), render)
        return render

    return register


def find(group: str, kind: str) -> Printer | None:
    """The printer of *kind* in *group*, or None."""
    return _PRINTERS.get((group, kind))


def put(group: str, version: str, kind: str, used: Printer) -> None:
    """Set the printer of one version of a kind."""
    _OF_ROWS[group, version, kind] = used


def drop(group: str, version: str, kind: str) -> None:
    """Forget a printer that was put."""
    _OF_ROWS.pop((group, version, kind), None)


def of_row(group: str, version: str, kind: str) -> Printer | None:
    """A printer that was put, or None."""
    return _OF_ROWS.get((group, version, kind))


def sub(obj: Obj | None, *path: str) -> Any:
    """The value at *path*, or None when any step is missing or null."""
    value: Any = obj
    for step in path:
        if not value:
            return None
        value = value.get(step)
    return value


def spec(obj: Obj) -> Obj:
    """``spec``, or an empty dict."""
    return obj.get("spec") or {}


def status(obj: Obj) -> Obj:
    """``status``, or an empty dict."""
    return obj.get("status") or {}


def name(obj: Obj) -> str:
    """``metadata.name``."""
    value: str = obj["metadata"].get("name", "")
    return value
