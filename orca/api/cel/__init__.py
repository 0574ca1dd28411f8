"""The Common Expression Language (CEL) as Kubernetes v1.36 speaks it. Pure; heavy parts load with the first expression.

    program = compile("object.spec.replicas <= 5", Environment({"object": DYN}), expects=BOOL)
    program.evaluate({"object": deployment})                        # True, or raises CelError
    program.evaluate({...}, budget=budget)                          # takes the cost from a budget shared by many

Values are plain JSON values: what comes from a request or a cache goes in as it is, without copies.

- ``compile`` raises ``CelCompileError`` with the message upstream's compiler gives (syntax, undeclared references,
  undefined fields, operand types, result type).
- ``Program.evaluate`` raises ``CelError`` (``no such key: x``, ``index out of bounds: 3``, …) and ``CelCostError`` once
  the call costs more than upstream's limit: no expression runs on for long, and none uses a backtracking matcher.
- ``orca.api.cel.rules`` evaluates ``x-kubernetes-validations``.

Google's parser (``cel-expr-python``, a wrapper of cel-cpp) turns the text into a tree, with the syntax errors that
upstream shows. Types, functions, evaluation and costs are ours: no library checks against a structural schema, holds
opaque values (quantities, addresses, URLs) or stops at a cost limit.

Never here: reading objects, admission, field paths of a particular kind.
"""

from orca.api.cel.budget import (
    MATCH_CONDITIONS_COST_BUDGET,
    PER_CALL_LIMIT,
    RUNTIME_COST_BUDGET,
    Budget,
)
from orca.api.cel.environment import Environment
from orca.api.cel.errors import CelCompileError, CelCostError, CelError
from orca.api.cel.program import Program, compile
from orca.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Type,
    list_of,
    map_of,
)

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "DURATION",
    "DYN",
    "INT",
    "MATCH_CONDITIONS_COST_BUDGET",
    "NULL",
    "PER_CALL_LIMIT",
    "RUNTIME_COST_BUDGET",
    "STRING",
    "TIMESTAMP",
    "UINT",
    "Budget",
    "CelCompileError",
    "CelCostError",
    "CelError",
    "Environment",
    "Program",
    "Type",
    "compile",
    "list_of",
    "map_of",
]
