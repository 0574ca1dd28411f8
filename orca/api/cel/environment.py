"""What an expression may refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orca.api.cel.types import ObjectType, Type


@dataclass(frozen=True, eq=False)
class Environment:
    """Variables with their types (``DYN``: checked while evaluating), and object types that may be constructed.

    Immutable; make one for a place where expressions stand and compile many with it. All functions of the Kubernetes
    libraries are there; ``authorizer`` is only what the caller declares as a variable of type ``AUTHORIZER``.
    """

    variables: Mapping[str, Type]
    constructible: Mapping[str, ObjectType] = field(default_factory=dict)
    """Types for ``Name{field: value}``, e.g. ``Object``, ``JSONPatch``."""

    def with_variables(self, variables: Mapping[str, Type]) -> Environment:
        """This environment with more variables."""
        return Environment({**self.variables, **variables}, self.constructible)
