"""What is older than a few minutes is dropped from etcd, by one of the servers on it."""

from __future__ import annotations

import structlog

from orca.client.clock import Clock
from orca.store.etcd import Etcd
from orca.store.outcomes import EtcdCompacted, EtcdError

log = structlog.get_logger()

COMPACT_SECONDS = 300.0
_COMPACTED = b"/registry/.orca/compacted"


class Compaction:
    """`forgotten`: the state before this revision is shown to nobody any more, whoever compacted."""

    def __init__(self, etcd: Etcd, clock: Clock) -> None:
        self._etcd = etcd
        self._clock = clock
        self.forgotten = 0

    async def run(self) -> None:
        """Drops what is older than five minutes from etcd. Of several servers one does it: whoever is the first to
        replace the note that all of them saw five minutes before (as upstream's ``compact_rev_key``)."""
        noted = -1
        while True:
            await self._clock.sleep(COMPACT_SECONDS)
            try:
                if noted < 0:
                    found, _ = await self._etcd.get(_COMPACTED)
                    noted = found.revision if found is not None else 0
                    if noted:
                        continue
                written = await self._etcd.put(_COMPACTED, b"{}", noted)
                # Whoever compacts: nobody gets what was before, also where it is remembered here. Clients rely on pages
                # ending (upstream's "continue listing from the last key").
                self.forgotten = max(self.forgotten, noted)
                if written.won and noted:
                    await self._etcd.compact(noted)
                noted = written.revision if written.won else written.current.revision if written.current else 0
            except EtcdCompacted:
                log.debug("compacted by somebody else", revision=noted)
                noted = -1
            except EtcdError as error:
                log.warning("compaction failed", error=str(error))
                noted = -1
