"""`explain`: facts in, steps out, in the order in which packets go. Pure."""

from __future__ import annotations

from orca.explain.trace.facts import Facts
from orca.explain.trace.reaching import of_connections, of_listening, of_policies, of_reply
from orca.explain.trace.resolving import of_dns, of_name, of_pod
from orca.explain.trace.serving import of_endpoints, of_rules, of_service
from orca.explain.trace.steps import Outcome, Step

ORDER = (
    of_pod,
    of_name,
    of_dns,
    of_service,
    of_endpoints,
    of_rules,
    of_policies,
    of_listening,
    of_connections,
    of_reply,
)


def explain(facts: Facts) -> tuple[Step, ...]:
    """All steps; what comes after one that is broken is told too, as far as it can be."""
    steps: list[Step] = []
    for stage in ORDER:
        steps += stage(facts)
        if steps and steps[-1].stage == "pod" and steps[-1].outcome is Outcome.BROKEN:
            break  # A pod that does not run resolves nothing and connects to nothing.
    return tuple(steps)


def first_break(steps: tuple[Step, ...]) -> Step | None:
    """Where it breaks; None when nothing is known to be broken."""
    return next((step for step in steps if step.outcome is Outcome.BROKEN), None)
