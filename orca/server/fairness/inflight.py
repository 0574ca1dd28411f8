"""What limits requests with ``--enable-priority-and-fairness=false``: two counts, for reading and for writing."""

from __future__ import annotations

from orca.api.errors import too_many_requests
from orca.auth.identity import MASTERS, UserInfo
from orca.server.fairness.fairness import REFUSAL


class InFlight:
    """A limit of 0 is none. Members of ``system:masters`` are always answered, so that somebody can repair things."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self.rejected = {"readOnly": 0, "mutating": 0}

    def check(self, user: UserInfo, mutating: bool, now_running: float) -> None:
        """Raises ApiError 429 when ``now_running`` (this request included) is over the limit."""
        limit = self._writing if mutating else self._reading
        if limit and now_running > limit and MASTERS not in user.groups:
            self.rejected["mutating" if mutating else "readOnly"] += 1
            raise too_many_requests(REFUSAL)
