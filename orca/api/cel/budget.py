"""How much evaluation may cost. Reference: k8s.io/apiserver ``pkg/apis/cel``.

A cost unit is about one step of the evaluation (one identifier, one selection, ten characters compared).
"""

from dataclasses import dataclass

PER_CALL_LIMIT = 1_000_000
"""For one evaluation of one expression."""

RUNTIME_COST_BUDGET = 10_000_000
"""For all rules over one custom resource, or all expressions of one policy binding, in one request."""

MATCH_CONDITIONS_COST_BUDGET = 2_500_000
"""For all match conditions of one webhook or policy in one request."""


@dataclass(slots=True)
class Budget:
    """What is left for the evaluations that share it. Below zero: exhausted, evaluate no more."""

    remaining: int = RUNTIME_COST_BUDGET

    def charge(self, cost: int) -> bool:
        """Take ``cost`` away; False when that was more than there was."""
        self.remaining -= cost
        return self.remaining >= 0
