"""What plugins share that let others (webhooks, policies) change an object: memory, and reading what they made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import orjson

from orca.admission.chain import Attributes
from orca.api import strategy
from orca.api.errors import bad_request
from orca.api.objects import Obj, same
from orca.api.resources import Resource
from orca.api.schema import decode

Convert = Callable[[Resource, Resource, Obj], Awaitable[Obj]]
"""(from, to, object) -> the object in the other version."""


@dataclass(slots=True)
class Memory:
    """Who was asked, and how they left the object. Those asked are told apart by any key that stays between rounds."""

    output: bytes = b""  # the object as the plugin left it
    called: set[Hashable] = field(default_factory=set)  # reinvocable ones, since the last change
    again: set[Hashable] = field(default_factory=set)  # those that saw an older state

    def changed(self) -> None:
        """The object changed: who saw it before has to see it again."""
        self.again |= self.called
        self.called.clear()

    def left(self, obj: Obj | None) -> None:
        """The plugin's round ends with this object."""
        self.output = _encoded(obj)


def recall(attrs: Attributes, plugin: str) -> Memory:
    """What a plugin remembers of this request; also that others changed the object between the rounds."""
    rounds = attrs.second_round()
    memory: Memory = rounds.notes.setdefault(plugin, Memory())
    if rounds.running and memory.output != _encoded(attrs.obj):
        memory.changed()
    return memory


async def take_over(attrs: Attributes, row: Resource, before: Obj, changed: Obj, convert: Convert) -> bool:
    """Put what became of ``before``, both in the version of ``row``, into ``attrs``; whether it differs.

    Raises ApiError when that is no object of its kind.
    """
    if changed.get("kind") != before.get("kind"):
        became, was = changed.get("kind") or "", before.get("kind") or ""
        raise bad_request(f"the kind in the data ({became}) does not match the expected kind ({was})")
    if changed.get("apiVersion") != before.get("apiVersion"):
        became, was = changed.get("apiVersion") or "", before.get("apiVersion") or ""
        raise bad_request(f"the API version in the data ({became}) does not match the expected API version ({was})")
    after = _changed_object(attrs, row, changed)
    if same(after, before):
        return False
    if row.api_version != attrs.resource.api_version and after.get("kind") == attrs.resource.kind:
        after = await convert(row, attrs.resource, after)
    attrs.obj = after
    return True


def _changed_object(attrs: Attributes, row: Resource, changed: Obj) -> Obj:
    """A changed body as an object of its kind, with defaults; ``row`` is the version it is in. Raises ApiError."""
    if changed.get("kind") != attrs.resource.kind:
        sub = attrs.resource.subresource(attrs.subresource)
        definition = sub.definition if sub is not None else ""
        return decode(row, changed, refuse_unknown=False, definition=definition)[0] if definition else changed
    decoder = strategy.of(row).decode if row.custom else None
    if decoder is not None:
        decoder(changed)
    else:
        changed, _ = decode(row, changed, refuse_unknown=False)
    strategy.apply_defaults(row, changed)
    return changed


def _encoded(obj: Obj | None) -> bytes:
    return b"" if obj is None else orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)
