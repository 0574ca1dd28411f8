"""The table of messages, read when the first protobuf body comes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources as package_data


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``kind`` is s, b, i, t, d or a message's name.

    ``pointer`` fields count with their zero value too; of others a zero means absent, as they are always sent.
    """

    name: str
    kind: str
    repeated: bool
    mapped: bool
    pointer: bool
    inline: bool


@dataclass(frozen=True, slots=True)
class Message:
    """Fields by number. ``whole``: the schema has no others; of what is not whole the numbers of some are missing."""

    fields: dict[int, Field]
    whole: bool
    last: int


_MORE = "…"
_FLAGS = "*%?^"
_PREFIXES = (
    "io.k8s.api.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
)


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    text = package_data.files(__package__).joinpath("messages.txt").read_text()
    split = (line.partition(" ") for line in text.splitlines() if line and line[0] != "#")
    return {name: fields for name, _, fields in split}


@cache
def message(name: str) -> Message | None:
    """A message; None for one that is not in the table."""
    line = _lines().get(name)
    if line is None:
        return None
    fields = dict(_field(text) for text in line.split() if text != _MORE)
    return Message(fields, not line.endswith(_MORE), max(fields, default=0))


def _field(text: str) -> tuple[int, Field]:
    number, name, kind = text.split(":")
    bare = kind.rstrip(_FLAGS)
    flags = kind[len(bare) :]
    return int(number), Field(name, bare, "*" in flags, "%" in flags, "?" in flags, "^" in flags)


def name_of(definition: str) -> str:
    """A schema definition's message: ``io.k8s.api.core.v1.Pod`` is ``core.v1.Pod``."""
    for prefix in _PREFIXES:
        if definition.startswith(prefix):
            return definition[len(prefix) :]
    return definition
