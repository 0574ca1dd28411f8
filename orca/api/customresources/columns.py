"""Table columns of custom kinds, from ``additionalPrinterColumns``.

Reference: k8s.io/apiextensions-apiserver ``pkg/registry/customresource/tableconvertor``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from orca.api.customresources import jsonpath
from orca.api.objects import Obj
from orca.api.printing.columns import AGE_TEXT, NAME, Cell, Cells, Printer, name
from orca.api.printing.duration import since
from orca.api.times import parse_time

_GO_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}
_AGE: Obj = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": AGE_TEXT}


def printer(told: list[Obj]) -> Printer:
    """The printer of a version with these ``additionalPrinterColumns``; without any it shows the age."""
    columns = told or [_AGE]
    definitions = [NAME.definition()]
    cells: list[tuple[Callable[[Any, datetime], Cell], jsonpath.Path]] = []
    for column in columns:
        path = column.get("jsonPath") or ""
        definitions.append(
            {
                "name": column.get("name") or "",
                "type": column.get("type") or "",
                "format": column.get("format") or "",
                "description": column.get("description")
                or f"Custom resource definition column (in JSONPath format): {path}",
                "priority": column.get("priority") or 0,
            }
        )
        try:
            parsed = jsonpath.parse(path)
        except jsonpath.BadPath:
            parsed = jsonpath.Path((lambda _: iter(()),))
        cells.append((_CELLS.get(column.get("type") or "", _string), parsed))

    def render(obj: Obj, now: datetime) -> Cells:
        row: Cells = [name(obj)]
        for cell, path in cells:
            found = path.find(obj)
            row.append(cell(found[0], now) if found else None)
        return row

    return Printer(tuple(definitions), render)


def _string(value: Any, now: datetime) -> Cell:
    del now
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        return text.translate(_GO_ESCAPES)
    return str(value)


def _integer(value: Any, now: datetime) -> Cell:
    del now
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _number(value: Any, now: datetime) -> Any:
    del now
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _boolean(value: Any, now: datetime) -> Cell:
    del now
    return value if isinstance(value, bool) else None


def _date(value: Any, now: datetime) -> Cell:
    if not isinstance(value, str):
        return None
    try:
        parse_time(value)
    except ValueError:
        return "<invalid>"
    return since(value, now)


_CELLS: dict[str, Callable[[Any, datetime], Cell]] = {
    "boolean": _boolean,
    "date": _date,
    "integer": _integer,
    "number": _number,
    "string": _string,
}
