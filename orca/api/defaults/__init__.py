"""Defaults of every kind, as upstream's defaulting functions set them.

Pure functions on one object; what depends on other objects belongs to ``orca.admission``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca.api.defaults import (
    admissionregistration,
    apps,
    batch,
    core,
    extensions,
    networking,
    pods,
    policy,
    storage,
)
from orca.api.defaults.registry import Default, Obj, find

if TYPE_CHECKING:
    from orca.api.resources import Resource

__all__ = ["apply_defaults", "of"]

# Importing a module registers its kinds.
_ROOMS = (admissionregistration, apps, batch, core, extensions, networking, pods, policy, storage)


def of(resource: Resource) -> Default | None:
    """The function that fills in the missing fields of one object of *resource*, or None."""
    return None if resource.custom else find(resource.group, resource.kind)


def apply_defaults(resource: Resource, obj: Obj) -> None:
    """Fill in the missing fields of *obj*, in place. Custom kinds get theirs from their schema instead."""
    fill = of(resource)
    if fill is not None:
        fill(obj)
