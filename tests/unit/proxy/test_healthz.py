"""What the proxy's health says to load balancers."""

from datetime import UTC, datetime

import pytest

from agents.proxy.healthz import LATE_SECONDS, Standing, judge
from orca.api.objects import Obj

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FINE = Standing(0.0, NOW.timestamp() - 1)
DOOMED: Obj = {"metadata": {}, "spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}


@pytest.mark.parametrize(
    ("standing", "node", "healthy", "live"),
    [
        (FINE, {"metadata": {}}, 200, 200),
        (FINE, None, 200, 200),
        (FINE, DOOMED, 503, 200),
        (FINE, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, 503, 200),
        (Standing(LATE_SECONDS - 1, 0), None, 200, 200),
        (Standing(LATE_SECONDS, 0), None, 503, 503),
    ],
)
def test_who_gets_new_connections(standing: Standing, node: Obj | None, healthy: int, live: int) -> None:
    assert judge(standing, node, NOW, live_only=False)[0] == healthy
    assert judge(standing, node, NOW, live_only=True)[0] == live


def test_what_is_told() -> None:
    assert judge(FINE, DOOMED, NOW, live_only=False)[1] == {
        "lastUpdated": "2026-01-01 11:59:59.000000 +0000 UTC",
        "currentTime": "2026-01-01 12:00:00.000000 +0000 UTC",
        "nodeEligible": False,
    }
    assert "nodeEligible" not in judge(FINE, DOOMED, NOW, live_only=True)[1]
