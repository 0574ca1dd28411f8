"""The connection to etcd on which values are sealed on their way out and opened on their way in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from orca.store.channels import EtcdTls
from orca.store.encryption.transform import Transforms
from orca.store.etcd import Etcd
from orca.store.outcomes import KeyValue, Seen, Transacted, Write


class SealedEtcd(Etcd):
    """As ``Etcd``; everything but this class sees plain values, and a ``Fault`` for what cannot be opened."""

    def __init__(self, endpoints: str | Sequence[str], transforms: Transforms, *, tls: EtcdTls | None = None) -> None:
        super().__init__(endpoints, tls=tls)
        self._transforms = transforms

    async def get(self, key: bytes) -> tuple[KeyValue | None, int]:
        pair, revision = await super().get(key)
        return (pair and self._opened(pair)), revision

    async def pages(
        self, start: bytes, end: bytes, revision: int = 0, page: int = 1000
    ) -> AsyncIterator[tuple[list[KeyValue], int]]:
        async for pairs, at in super().pages(start, end, revision, page):
            yield [self._opened(pair) for pair in pairs], at

    async def transact(self, writes: Sequence[Write]) -> Transacted:
        seal = self._transforms.seal
        sealed = [one if one.value is None else one._replace(value=seal(one.key, one.value)) for one in writes]
        done = await super().transact(sealed)
        return done if done.won else done._replace(current=[pair and self._opened(pair) for pair in done.current])

    async def watch(
        self, start: bytes, end: bytes, since: int, *, previous: bool = False, opened: Callable[[], None] | None = None
    ) -> AsyncGenerator[list[Seen], None]:
        async for batch in super().watch(start, end, since, previous=previous, opened=opened):
            yield [self._seen(one) for one in batch]

    async def stale(self, key: bytes) -> bool:
        """Asks etcd itself: what the cache holds does not tell how it was written."""
        transform = self._transforms.of(key)
        if transform.only_plain:
            return False
        stored, _ = await super().get(key)
        return stored is not None and transform.stale(stored.value)

    def _opened(self, pair: KeyValue) -> KeyValue:
        transform = self._transforms.of(pair.key)
        return pair if transform.only_plain else pair._replace(value=transform.open(pair.key, pair.value))

    def _seen(self, seen: Seen) -> Seen:
        if self._transforms.of(seen.key).only_plain:
            return seen
        value = None if seen.value is None else self._transforms.open(seen.key, seen.value)
        return seen._replace(value=value, previous=seen.previous and self._opened(seen.previous))
