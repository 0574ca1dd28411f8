"""Reads fields of a configuration strictly: a path in every complaint, and no field that nobody knows."""

from __future__ import annotations

from typing import Any

from orca.api.objects import Obj


class ConfigurationInvalid(Exception):
    """The text says what, and where."""


def mapping(value: Any, path: str, known: frozenset[str] | set[str]) -> Obj:
    """An object with known fields only; a missing one is empty. Raises ConfigurationInvalid."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationInvalid(f"{path}: must be an object")
    for field in value:
        if field not in known:
            raise ConfigurationInvalid(f'{path}: unknown field "{field}"')
    return value


def items(value: Any, path: str) -> list[Any]:
    """A list; a missing one is empty. Raises ConfigurationInvalid."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigurationInvalid(f"{path}: must be a list")
    return value


def number(value: Any, path: str, least: int, most: int) -> int:
    """A whole number in a range. Raises ConfigurationInvalid."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationInvalid(f"{path}: {value!r} is not a whole number from {least} to {most}")
    return value


def text(value: Any, path: str) -> str:
    """Text that is not empty. Raises ConfigurationInvalid."""
    if not isinstance(value, str) or not value:
        raise ConfigurationInvalid(f"{path}: must be text")
    return value


def flag(value: Any, path: str) -> bool:
    """True or false. Raises ConfigurationInvalid."""
    if not isinstance(value, bool):
        raise ConfigurationInvalid(f"{path}: must be true or false")
    return value


def one_of(value: Any, path: str, allowed: tuple[str, ...]) -> str:
    """One of some words. Raises ConfigurationInvalid."""
    if value not in allowed:
        raise ConfigurationInvalid(f"{path}: {value!r} is not one of {', '.join(allowed)}")
    return str(value)
