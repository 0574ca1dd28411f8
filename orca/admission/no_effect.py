"""Warnings about what is stored and shown here but does nothing: nobody has to find out by its absence.

Refusing these would break manifests that work elsewhere, so the answer carries a ``Warning:`` header instead, which
kubectl prints. Given on create, and on an update that changes anything but metadata and status. The README's table of
limits says the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from orca.admission.chain import CREATE, UPDATE, Attributes
from orca.api.builtin import (
    RESOURCECLAIMS,
)
from orca.api.objects import Obj
from orca.api.resources import Resource

KINDS: dict[Resource, str] = {
    RESOURCECLAIMS: "nothing allocates devices in this version",
}
"""Kinds of which no object does anything, and why."""


class NoEffect:
    """Only warns; refuses and changes nothing."""

    kinds = frozenset(KINDS)

    async def validate(self, attrs: Attributes) -> None:
        """Adds to ``attrs.warnings``, once for each text."""
        if attrs.obj is None or attrs.subresource or attrs.operation not in (CREATE, UPDATE):
            return
        if attrs.old is not None and _content(attrs.obj) == _content(attrs.old):
            return
        for text in warnings_for(attrs.resource):
            if text not in attrs.warnings:
                attrs.warnings.append(text)


def _content(obj: Obj) -> Obj:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def warnings_for(resource: Resource) -> Iterator[str]:
    """What people should know about objects of a kind."""
    if resource in KINDS:
        yield f"{resource.kind} has no effect: {KINDS[resource]}"
