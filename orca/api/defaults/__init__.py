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
from orca.api.defaults.registry import Default, find

if TYPE_CHECKING:
    from orca.api.resources import Resource

__all__ = ["of"]

# Importing a module registers its kinds.
_ROOMS = (admissionregistration, apps, batch, core, extensions, networking, pods, policy, storage)


def of(resource: Resource) -> Default | None:
    """The function that fills in the missing fields of one object of *resource*, or None."""
    return None if resource.custom else find(resource.group, resource.kind)
