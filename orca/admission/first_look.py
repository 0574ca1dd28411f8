"""Whether a namespace really has none of the objects that bound what is made in it.

The cache of a server hears a moment late of what another server was told. Who has made a namespace and its limits, and
then the first pod, may reach a server that has not heard of them yet; so that one asks etcd how far it is before it
lets something pass for want of limits. As upstream's plugins, which look into etcd then, and believe what they saw for
half a minute (``liveLookupCache``).
"""

from orca.admission.chain import Cluster
from orca.client.clock import Clock, SystemClock

BELIEVED_SECONDS = 30.0
_NAMESPACES = 10_000


class FirstLook:
    """Costs a question to etcd only where several servers share it; alone, a server knows."""

    def __init__(self, cluster: Cluster, clock: Clock | None = None) -> None:
        self._cluster = cluster
        self._clock = clock or SystemClock()
        self._looked: dict[str, float] = {}

    def due(self, namespace: str) -> bool:
        """Whether the cache's word that a namespace has none is not to be believed."""
        looked = self._looked.get(namespace)
        return looked is None or self._clock.monotonic() - looked >= BELIEVED_SECONDS

    async def take(self, namespace: str) -> None:
        """The cache shows what was there when this was called. Raises ApiError 503, 504."""
        now = self._clock.monotonic()
        await self._cluster.fresh()
        if len(self._looked) >= _NAMESPACES:
            self._looked.clear()
        self._looked[namespace] = now
