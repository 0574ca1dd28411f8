"""What comes of asking etcd: values, outcomes of writes, errors by what the caller should do."""

from __future__ import annotations

from typing import NamedTuple


class EtcdError(Exception):
    """etcd refused or failed a request in a way that trying again does not heal."""


class EtcdUnavailable(EtcdError):
    """No answer: nothing is known about what a write did. Try again later."""


class EtcdFenced(EtcdError):
    """Nothing was written: the leader's term is over (``orca.store.fence``)."""


class EtcdCompacted(EtcdError):
    """The revision asked for is no longer kept. `oldest` is the first that is, 0 when unknown."""

    def __init__(self, oldest: int = 0) -> None:
        super().__init__(f"compacted up to {oldest}")
        self.oldest = oldest


class KeyValue(NamedTuple):
    key: bytes
    value: bytes
    revision: int
    created: bool = False


class Written(NamedTuple):
    """Outcome of a compare-and-write at `revision`; when it lost, `current` is what is there (None: nothing)."""

    won: bool
    revision: int
    current: KeyValue | None


class Write(NamedTuple):
    """A part of a transaction: `value` None deletes; `expected` as for `Etcd.put`, None writes whatever is there."""

    key: bytes
    value: bytes | None
    expected: int | None
    lease: int = 0


class Transacted(NamedTuple):
    """Outcome of several writes at once; when they lost, `current` is what is there now, in the order of the writes."""

    won: bool
    revision: int
    current: list[KeyValue | None]


class Seen(NamedTuple):
    """One watch event. `value` is None for a deletion; `previous` only when the watch asked for it."""

    key: bytes
    revision: int
    value: bytes | None
    created: bool
    previous: KeyValue | None
