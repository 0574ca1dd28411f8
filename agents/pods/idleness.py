"""What this host's cpus leave over, from the kernel's own account."""

from __future__ import annotations

import os
from pathlib import Path

IDLE, IOWAIT, STEAL = 3, 4, 7
"""Fields of the line ``cpu`` of /proc/stat (proc_stat(5)); what comes after them is counted in others already."""
LINE_BYTES = 256


class Idleness:
    """Called, it answers the share of all cpus' time that nobody used since it was called before; None the first time
    and where the kernel does not tell. Time in which all wait for the disk is unused, too."""

    def __init__(self, account: Path = Path("/proc/stat")) -> None:
        self._account = account
        self._descriptor = -1
        self._before: tuple[int, int] | None = None

    def __call__(self) -> float | None:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._account, os.O_RDONLY | os.O_CLOEXEC)
            # The first line is what is wanted; the descriptor stays open for the next look.
            fields = [int(one) for one in os.pread(self._descriptor, LINE_BYTES, 0).split(maxsplit=STEAL + 2)[1:-1]]
            now = fields[IDLE] + fields[IOWAIT], sum(fields)
        except (OSError, ValueError, IndexError):
            return None
        before, self._before = self._before, now
        if before is None or now[1] <= before[1]:
            return None
        # Idle time of a cpu that wakes up may be taken back by a little.
        return max(0.0, (now[0] - before[0]) / (now[1] - before[1]))
