"""Types of expressions: what the checker reasons about. Names and their texts in errors are cel-go's.

Reference: github.com/google/cel-go ``common/types``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Type:
    """``name`` with parameters: ``int``, ``list(string)``, ``kubernetes.Quantity``. A name in capitals of one letter
    is a type parameter of a signature."""

    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(str(param) for param in self.params)})"


@dataclass(frozen=True, slots=True, eq=False)
class ObjectType(Type):
    """An object with known fields. ``fields`` maps names as expressions write them (escaped) to what they are.

    ``real`` maps those names to the keys of the JSON object where they differ. A field that is null is an absent one,
    unless ``nullable``. Equal only to types of its name.
    """

    fields: Mapping[str, Type] = field(default_factory=dict)
    real: Mapping[str, str] = field(default_factory=dict)
    nullable: bool = False


DYN = Type("dyn")
NULL = Type("null_type")
BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
TIMESTAMP = Type("timestamp")
DURATION = Type("duration")
TYPE = Type("type")
QUANTITY = Type("kubernetes.Quantity")
AUTHORIZER = Type("kubernetes.authorization.Authorizer")


def list_of(element: Type) -> Type:
    """``list(element)``."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """``map(key, value)``."""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """``optional_type(value)``."""
    return Type("optional_type", (value,))


def is_param(type_: Type) -> bool:
    """Whether this stands for any type (``A`` of a signature, or one made while checking)."""
    name = type_.name
    return name[0] == "%" or (len(name) == 1 and name.isupper())


def read_type(text: str) -> Type:
    """A type from a signature: ``map(string, list(A))``, ``optional(A)``."""
    type_, rest = _read(text.strip())
    if rest.strip():
        raise ValueError(f"type {text!r}: {rest!r} is left over")
    return type_


def _read(text: str) -> tuple[Type, str]:
    end = 0
    while end < len(text) and (text[end].isalnum() or text[end] in "._"):
        end += 1
    name, rest = text[:end], text[end:].lstrip()
    if name == "optional":
        name = "optional_type"
    if not rest.startswith("("):
        return Type(name), rest
    params: list[Type] = []
    while True:
        param, rest = _read(rest[1:].lstrip())
        params.append(param)
        rest = rest.lstrip()
        if rest.startswith(")"):
            return Type(name, tuple(params)), rest[1:]
