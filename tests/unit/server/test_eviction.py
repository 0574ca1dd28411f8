"""Which pods leave without asking their disruption budget."""

import pytest

from orca.server.verbs.pods import needs_no_room


def budget(policy=None, current=0, desired=1):
    spec = {"unhealthyPodEvictionPolicy": policy} if policy else {}
    return {"spec": spec, "status": {"currentHealthy": current, "desiredHealthy": desired}}


def pod(ready):
    return {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.parametrize(
    ("ready", "given", "free"),
    [
        ("True", budget("AlwaysAllow"), False),
        ("False", budget("AlwaysAllow"), True),
        ("False", budget("IfHealthyBudget"), False),
        ("False", budget(), False),
        ("False", budget(current=1), True),
        ("False", budget("IfHealthyBudget", current=2), True),
        ("False", budget(current=0, desired=0), False),
        ("True", budget(current=2), False),
    ],
)
def test_pods_that_are_not_ready_by_the_budgets_policy(ready, given, free):
    assert needs_no_room(pod(ready), given) is free
