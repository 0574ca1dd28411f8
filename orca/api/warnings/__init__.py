"""What a valid object asks for that it had better not: deprecated fields, definitions that hide each other.

The answer of a create or update carries each text as a ``Warning:`` header, worded as upstream's strategies word it
(``WarningsOnCreate``, ``WarningsOnUpdate``). Nothing here refuses anything. What orca itself leaves undone is
``orca.admission.no_effect``'s to say.
"""

from __future__ import annotations

from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.warnings import kinds, workloads
from orca.api.warnings.registry import WARNINGS, find

__all__ = ["WARNINGS", "kinds", "on_write", "workloads"]


def on_write(resource: Resource, new: Obj, old: Obj | None) -> list[str]:
    """Texts about a checked object; ``old`` is None for a create."""
    rule = None if resource.custom else find(resource.group, resource.kind)
    return list(rule(new, old)) if rule else []
