"""From values to what etcd holds and back, by storage prefix.

The first provider of a resource writes; all of them read, found by the prefix of the stored bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca.store.encryption.providers import Provider
from orca.store.faults import ENCRYPTED, Fault

CORE = "core"
"""The group's part in the storage prefix of kinds of the core group."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """One way to write: ``prefix`` is b"" and ``provider`` None for plain text (identity)."""

    prefix: bytes = b""
    provider: Provider | None = None


PLAIN = Sealer()


class Transform:
    """The providers of one resource, the first of which writes."""

    def __init__(self, sealers: Sequence[Sealer]) -> None:
        self._first = sealers[0]
        self._sealers = tuple(sealers)
        self.only_plain = all(sealer.provider is None for sealer in sealers)

    def seal(self, key: bytes, value: bytes) -> bytes:
        """What etcd is given."""
        first = self._first
        return value if first.provider is None else first.prefix + first.provider.seal(value, key)

    def open(self, key: bytes, data: bytes) -> bytes:
        """The value, or a Fault that says why there is none."""
        problems: list[str] = []
        sealed = data.startswith(ENCRYPTED)
        for sealer in self._sealers:
            if sealer.provider is None:
                if not sealed:
                    return data
            elif data.startswith(sealer.prefix):
                try:
                    return sealer.provider.open(data[len(sealer.prefix) :], key)
                except ValueError as error:
                    problems.append(str(error))
        why = "; ".join(dict.fromkeys(problems))
        if not why and sealed and self.only_plain:
            why = "identity transformer tried to read encrypted data"
        return Fault((why or "no matching prefix found").encode())

    def stale(self, data: bytes) -> bool:
        """Whether what is stored was written in another way than it would be now."""
        if self._first.provider is None:
            return data.startswith(ENCRYPTED)
        return not data.startswith(self._first.prefix)


IDENTITY = Transform([PLAIN])


@dataclass(frozen=True, slots=True)
class Rule:
    """One element of the file: the resources (``secrets``, ``*.apps``, ``*.*``) and how they are kept."""

    resources: tuple[tuple[str, str], ...]
    """(plural or "*", group, "" for core, or "*")"""
    transform: Transform

    def covers(self, plural: str, group: str) -> bool:
        """Whether it is about that resource."""
        return any(
            (wanted_group in ("*", group)) and (wanted in ("*", plural)) for wanted, wanted_group in self.resources
        )


class Transforms:
    """All rules; the first that covers a resource counts, what none covers is plain text. Replaceable at run time."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._found: dict[bytes, Transform] = {}

    def replace(self, rules: Sequence[Rule]) -> None:
        """From now on these."""
        self._rules = tuple(rules)
        self._found = {}

    def of(self, key: bytes) -> Transform:
        """How the object under an etcd key (``/registry/<group>/<plural>/…``) is kept."""
        storage = key[: _third_slash(key)]
        found = self._found.get(storage)
        if found is None:
            found = self._found[storage] = self._look_up(storage)
        return found

    def seal(self, key: bytes, value: bytes) -> bytes:
        """What etcd is given for ``value``."""
        return self.of(key).seal(key, value)

    def open(self, key: bytes, data: bytes) -> bytes:
        """The value behind what etcd holds, or a Fault."""
        return self.of(key).open(key, data)

    def _look_up(self, storage: bytes) -> Transform:
        parts = storage.decode().split("/")
        if len(parts) != 4:
            return IDENTITY
        group = "" if parts[2] == CORE else parts[2]
        for rule in self._rules:
            if rule.covers(parts[3], group):
                return rule.transform
        return IDENTITY


def _third_slash(key: bytes) -> int:
    """Where the storage prefix ends."""
    at = key.find(b"/", 1)
    at = key.find(b"/", at + 1)
    end = key.find(b"/", at + 1)
    return end if end >= 0 else len(key)
