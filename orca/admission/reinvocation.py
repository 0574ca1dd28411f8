"""What mutating plugins that ask others (webhooks, policies) remember of the first round in the second."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import orjson

from orca.admission.chain import Attributes
from orca.api.objects import Obj


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


def _encoded(obj: Obj | None) -> bytes:
    return b"" if obj is None else orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)
