"""Revisions as orca counts them: etcd's number of a transaction, and a place within it.

etcd gives everything that one transaction writes the same revision. Clients resume a watch behind the resourceVersion
of the last event they saw, so two changes must never share one: whoever had seen only the first would not hear of the
second. A revision of ours therefore is etcd's times `PLACES` and a place, and rises from each change to the next.

etcd tells in which order a transaction made its changes, but only to watches. So a value is stored behind as many
blanks as its place: still the same JSON (or sealed value) to whoever reads it, and what stands at the first place, as
everything that is written alone, is stored as it is. A deletion stores nothing; it takes the place after the change
before it, which all watches count alike.
"""

from __future__ import annotations

PLACES = 1024
"""More than there are changes in a transaction: etcd takes 128 operations in one, and no more objects than this share a
lease (``leases.py``), with which they end."""
_LAST = PLACES - 1
_BLANK = 0x20


def at(transaction: int, place: int = 0) -> int:
    """The revision of a change. Should there be more than places, the rest share the last."""
    return transaction * PLACES + min(place, _LAST)


def through(transaction: int) -> int:
    """The last revision of etcd's transaction: with it, everything it did is known."""
    return transaction * PLACES + _LAST


def transaction_of(revision: int) -> int:
    """etcd's revision."""
    return revision // PLACES


def complete(revision: int) -> int:
    """The last revision of the transaction that `revision` is part of."""
    return revision | _LAST


def placed(value: bytes, place: int) -> bytes:
    """A value as it is stored at a place of its transaction."""
    return b" " * min(place, _LAST) + value if place else value


def taken(stored: bytes) -> tuple[bytes, int]:
    """A stored value, and its place."""
    if not stored or stored[0] != _BLANK:
        return stored, 0
    value = stored.lstrip(b" ")
    return value, len(stored) - len(value)


class Order:
    """Places of changes as etcd tells of them, in their order."""

    __slots__ = ("_place", "_transaction")

    def __init__(self) -> None:
        self._transaction = 0
        self._place = -1

    def put(self, transaction: int, place: int) -> int:
        """The revision of a value that was written."""
        self._transaction, self._place = transaction, place
        return at(transaction, place)

    def deleted(self, transaction: int) -> int:
        """The revision of a deletion."""
        if transaction != self._transaction:
            self._transaction, self._place = transaction, -1
        self._place += 1
        return at(transaction, self._place)
