"""A structural schema as a tree: the parts of ``openAPIV3Schema`` that say what an object is made of.

Value validation stays in the JSON form (``schema``); see ``values``. Reference: k8s.io/apiextensions-apiserver
``pkg/apiserver/schema``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from orca.api.objects import Obj

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE = "x-kubernetes-list-type"
LIST_KEYS = "x-kubernetes-list-map-keys"
MAP_TYPE = "x-kubernetes-map-type"
RULES = "x-kubernetes-validations"
META_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata"})


@dataclass(slots=True)
class Structural:
    """One node. ``additional`` is the schema of other members, True for any of them, None for none.

    ``defaults``, ``unique``, ``embeds`` and ``ruled`` tell whether this node or one below has a default, a list of type
    set or map, an embedded resource, a CEL rule: what need not be walked is not.
    """

    schema: Obj
    type: str = ""
    nullable: bool = False
    preserve: bool = False
    embedded: bool = False
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    properties: dict[str, Structural] = field(default_factory=dict)
    additional: Structural | bool | None = None
    items: Structural | None = None
    defaults: bool = False
    unique: bool = False
    embeds: bool = False
    ruled: bool = False

    @property
    def has_default(self) -> bool:
        """Whether the schema gives a default; null is none."""
        return self.schema.get("default") is not None

    @property
    def default(self) -> Any:
        """The default, frozen."""
        return self.schema.get("default")

    def member(self, name: str) -> Structural | None:
        """The schema of one member of an object, None when nothing is said about it."""
        found = self.properties.get(name)
        if found is not None:
            return found
        return self.additional if isinstance(self.additional, Structural) else None

    def below(self) -> Iterator[Structural]:
        """The nodes directly below."""
        yield from self.properties.values()
        if isinstance(self.additional, Structural):
            yield self.additional
        if self.items is not None:
            yield self.items


def parse(schema: Obj) -> Structural:
    """The tree of an ``openAPIV3Schema``, which has been found structural."""
    additional = schema.get("additionalProperties")
    items = schema.get("items")
    node = Structural(
        schema,
        type=schema.get("type") or "",
        nullable=bool(schema.get("nullable")),
        preserve=bool(schema.get(PRESERVE)),
        embedded=bool(schema.get(EMBEDDED)),
        list_type=schema.get(LIST_TYPE) or "",
        list_keys=tuple(schema.get(LIST_KEYS) or ()),
        properties={name: parse(inner) for name, inner in (schema.get("properties") or {}).items()},
        additional=parse(additional) if isinstance(additional, dict) else (True if additional else None),
        items=parse(items) if isinstance(items, dict) else None,
    )
    node.defaults = node.has_default or any(inner.defaults for inner in node.below())
    node.unique = node.list_type in ("set", "map") or any(inner.unique for inner in node.below())
    node.embeds = node.embedded or any(inner.embeds for inner in node.below())
    node.ruled = bool(schema.get(RULES)) or any(inner.ruled for inner in node.below())
    return node


def rooted(schema: Obj) -> Structural:
    """:func:`parse` for the schema of a whole object, whose metadata nobody has to describe."""
    node = parse(schema)
    node.embedded = True
    return node
