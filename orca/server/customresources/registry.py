"""From definitions in the store to rows in the resource table.

The registry hears of a definition in the moment the cache does, before any watcher: who sees a definition established
finds its kind served. Schemas stay encoded until the first object of their kind comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson
import structlog

from orca.api import selectors, strategy
from orca.api.builtin import CUSTOMRESOURCEDEFINITIONS
from orca.api.customresources import columns, jsonpath, published
from orca.api.customresources.kind import CustomKind
from orca.api.customresources.rows import Served, rows_of
from orca.api.objects import Obj, is_terminating
from orca.api.printing.columns import drop as drop_printer
from orca.api.printing.columns import put as put_printer
from orca.api.resources import Resource, ResourceTable
from orca.api.schema import SCHEMA
from orca.api.strategy import ScalePaths, Strategy
from orca.client.hooks import HookCaller
from orca.server.customresources.conversion import Converter
from orca.store import Change, Entry, Store

log = structlog.get_logger()


class CustomKinds:
    """Keeps the table's custom rows as the definitions say. ``start`` serves what is stored already."""

    def __init__(self, store: Store, table: ResourceTable, caller: HookCaller) -> None:
        self._store = store
        self._table = table
        self._caller = caller
        self._rows: dict[str, dict[str, Resource]] = {}  # definition -> version -> row
        self._heads: dict[str, Obj] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._builtin = {(row.group, row.version) for row in table if not row.custom}

    def __repr__(self) -> str:
        return f"<CustomKinds of {len(self._rows)} definitions>"

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(name)`` after every change of a definition."""
        self._listeners.append(listener)

    def head(self, name: str) -> Obj | None:
        """A definition without its schemas, frozen."""
        return self._heads.get(name)

    def of_group(self, group: str) -> list[Obj]:
        """The heads of all definitions of a group."""
        return [head for head in self._heads.values() if head["spec"]["group"] == group]

    def start(self) -> None:
        """Serve all that are stored, and follow."""
        self._store.follow(CUSTOMRESOURCEDEFINITIONS, self._changed)
        for entry in list(self._store.entries(CUSTOMRESOURCEDEFINITIONS)):
            self._take(entry)

    def _changed(self, change: Change) -> None:
        if change.entry is not None:
            self._take(change.entry)
        elif change.previous is not None:
            self._forget(change.previous.name)

    def _take(self, entry: Entry) -> None:
        try:
            # Not kept parsed: hundreds of schemas would take many times the room of their bytes.
            obj = orjson.loads(entry.raw)
            self._heads[entry.name] = _head(obj)
            self._install(entry.name, obj, entry.raw)
        except (KeyError, TypeError, ValueError, StopIteration):
            # Whatever somebody wrote past validation, the other definitions must go on.
            log.exception("a CustomResourceDefinition cannot be served", name=entry.name)
        for listener in self._listeners:
            listener(entry.name)

    def _install(self, name: str, obj: Obj, raw: bytes) -> None:
        wanted = {
            served.row.version: served
            for served in rows_of(obj)
            if (served.row.group, served.row.version) not in self._builtin
        }
        known = self._rows.setdefault(name, {})
        for version, row in list(known.items()):
            if version not in wanted:
                del known[version]
                self._remove(row)
        for version, served in wanted.items():
            before = known.get(version)
            if before is None or before.fingerprint != served.row.fingerprint:
                known[version] = served.row
                self._add(served, obj, raw)

    def _forget(self, name: str) -> None:
        self._heads.pop(name, None)
        for row in self._rows.pop(name, {}).values():
            self._remove(row)
        for listener in self._listeners:
            listener(name)

    def _add(self, served: Served, obj: Obj, raw: bytes) -> None:
        row, version = served.row, served.version
        conversion = obj["spec"].get("conversion") or {}
        hook = None
        if conversion.get("strategy") == "Webhook":
            hook = Converter(self._caller, conversion.get("webhook") or {})
        places = {f"{row.group}/{one['name']}": place for place, one in enumerate(obj["spec"]["versions"])}

        def load(place: int = served.index) -> Obj:
            schema: Obj = orjson.loads(raw)["spec"]["versions"][place].get("schema") or {}
            return schema.get("openAPIV3Schema") or {}

        def other(api_version: str) -> CustomKind | None:
            place = places.get(api_version)
            if place is None:
                return None
            return CustomKind(replace(row, version=api_version.rpartition("/")[2]), lambda: load(place))

        told = version.get("subresources") or {}
        scale = _scale(told.get("scale"))
        kind = CustomKind(row, load, hook=hook, terminating=is_terminating(obj), scale=scale, others=other)
        strategy.put(
            row,
            Strategy(
                defaults=kind.defaults,
                validate_create=kind.validate_create,
                validate_update=kind.validate_update,
                generation=True,
                status_fields=("status",) if told.get("status") is not None else (),
                decode=kind.decode,
                refuse_create=kind.refuse_create,
                scale=scale,
                versions=kind,
            ),
        )
        SCHEMA.put(row.definition, lambda: published.definition(row, kind.schema))
        put_printer(row.group, row.version, row.kind, columns.printer(version.get("additionalPrinterColumns") or []))
        fields = (str(one.get("jsonPath") or "") for one in version.get("selectableFields") or ())
        selectors.put_fields(row, {field.removeprefix("."): jsonpath.field_steps(field) for field in fields})
        self._table.add(row)

    def _remove(self, row: Resource) -> None:
        self._table.remove(row)
        strategy.drop(row)
        SCHEMA.drop(row.definition)
        drop_printer(row.group, row.version, row.kind)
        selectors.drop_fields(row)
        self._store.close_watches(row)


def _head(obj: Obj) -> Obj:
    spec = obj["spec"]
    versions = [{key: one.get(key) for key in ("name", "served", "storage")} for one in spec["versions"]]
    told = {"group": spec["group"], "names": spec["names"], "scope": spec["scope"], "versions": versions}
    fields = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {"metadata": fields, "spec": told, "status": obj.get("status") or {}}


def _scale(told: Obj | None) -> ScalePaths | None:
    if told is None:
        return None
    selector = told.get("labelSelectorPath") or ""
    return ScalePaths(
        jsonpath.field_steps(told["specReplicasPath"]),
        jsonpath.field_steps(told["statusReplicasPath"]),
        jsonpath.field_steps(selector) if selector else (),
    )
