"""What a valid object asks for that it had better not: deprecated fields, definitions that hide each other.

The answer of a create or update carries each text as a ``Warning:`` header, worded as upstream's strategies word it
(``WarningsOnCreate``, ``WarningsOnUpdate``). Nothing here refuses anything. What orca itself leaves undone is
``orca.admission.no_effect``'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from orca.api.names import qualified_name
from orca.api.objects import Obj, finalizers
from orca.api.resources import Resource
from orca.api.warnings import kinds, workloads
from orca.api.warnings.registry import WARNINGS, find

__all__ = ["WARNINGS", "kinds", "on_write", "workloads"]

_MOST = 1000
"""Texts that are looked for: of every two of thousands of ports there may be one, and answers hold 4 KiB of them."""
_PLAIN_FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")
_UNQUALIFIED = (
    "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer "
    "writers"
)


def on_write(resource: Resource, new: Obj, old: Obj | None) -> list[str]:
    """Texts about a checked object; ``old`` is None for a create."""
    if resource.custom:
        return list(islice(_finalizers(new, old), _MOST))
    rule = find(resource.group, resource.kind)
    return list(islice(rule(new, old), _MOST)) if rule else []


def _finalizers(new: Obj, old: Obj | None) -> Iterator[str]:
    """Of a custom object: those of built-in kinds are refused for the same."""
    for one in sorted(set(finalizers(new)) - set(finalizers(old or {}))):
        yield from (f'metadata.finalizers: "{one}": {problem}' for problem in qualified_name(one))
        if "/" not in one and one not in _PLAIN_FINALIZERS:
            yield f'metadata.finalizers: "{one}": {_UNQUALIFIED}'
