"""Stored values that cannot be shown: written with a key the server does not have, or damaged."""

from __future__ import annotations

ENCRYPTED = b"k8s:enc:"
"""How every encrypted value begins, whatever the provider."""


class Fault(bytes):
    """Takes the place of a value that could not be decrypted; its content is the reason."""

    __slots__ = ()


class Unreadable(Exception):
    """A stored value is no object; the message says why and quotes nothing of it."""

    def __init__(self, value: bytes) -> None:
        if isinstance(value, Fault):
            why = value.decode()
        elif value.startswith(ENCRYPTED):
            why = "identity transformer tried to read encrypted data"
        else:
            why = "the stored data is no object"
        super().__init__(why)


def told(key: str, why: str) -> str:
    """A reason as clients are told it, in upstream's words. `key` is the etcd key."""
    return f'unable to transform key "{key}": {why}'
