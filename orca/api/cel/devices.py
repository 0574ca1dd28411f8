"""Where selectors of devices stand: what ``device`` has.

Reference: k8s.io/dynamic-resource-allocation ``cel/compile.go``.
"""

from __future__ import annotations

from orca.api.cel.environment import Environment
from orca.api.cel.errors import CelCompileError
from orca.api.cel.program import compile
from orca.api.cel.types import BOOL, DYN, QUANTITY, STRING, ObjectType, map_of

_DEVICE = ObjectType(
    "kubernetes.DRADevice",
    (),
    {
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, DYN)),
        "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
        "allowMultipleAllocations": BOOL,
    },
)
SELECTORS = Environment({"device": _DEVICE})


def wrong(expression: str) -> str:
    """What a selector is refused for, or nothing."""
    try:
        result = compile(expression, SELECTORS).result
    except CelCompileError as error:
        return f"compilation failed: {error}"
    return "" if result in (BOOL, DYN) else f"must evaluate to bool or the unknown type, not {result}"
