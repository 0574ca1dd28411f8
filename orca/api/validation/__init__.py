"""Semantic validation of every kind, with upstream's field paths and messages.

Types are checked by ``orca.api.schema`` before; what depends on other objects belongs to ``orca.admission``.
Generic metadata is ``orca.api.metadata``'s; here is what each kind adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca.api.validation import (
    admissionregistration,
    autoscaling,
    batch,
    certificates,
    claims,
    core,
    devices,
    deviceslices,
    endpoints,
    events,
    extensions,
    flowcontrol,
    ingresses,
    kindnames,
    networking,
    nodes,
    policies,
    policy,
    quotas,
    rbac,
    registry,
    reviews,
    services,
    statefulsets,
    storage,
    volumes,
    workloads,
)
from orca.api.validation.kindnames import NameRule
from orca.api.validation.pods import spec as _pod_spec
from orca.api.validation.pods import updates as _pod_updates
from orca.api.validation.registry import CreateRule, Errors, Obj, UpdateRule

if TYPE_CHECKING:
    from orca.api.resources import Resource

__all__ = ["create_of", "name_rule_of", "update_of", "validate_create"]

# Importing a module registers its kinds.
_ROOMS = (
    _pod_spec,
    _pod_updates,
    admissionregistration,
    autoscaling,
    batch,
    certificates,
    claims,
    core,
    devices,
    deviceslices,
    endpoints,
    events,
    extensions,
    flowcontrol,
    ingresses,
    networking,
    nodes,
    policies,
    policy,
    quotas,
    rbac,
    reviews,
    services,
    statefulsets,
    storage,
    volumes,
    workloads,
)


def create_of(resource: Resource) -> CreateRule | None:
    """The rule a new object of *resource* is judged by, or None."""
    return None if resource.custom else registry.create_rule(resource.group, resource.kind)


def update_of(resource: Resource) -> UpdateRule | None:
    """The rule a changed object of *resource* is judged by, or None: then ``create_of`` applies."""
    return None if resource.custom else registry.update_rule(resource.group, resource.kind)


def name_rule_of(resource: Resource) -> NameRule | None:
    """The rule names of *resource* follow; None: RFC 1123 subdomains."""
    return None if resource.custom else kindnames.rule_of(resource.group, resource.kind)


def validate_create(resource: Resource, obj: Obj) -> Errors:
    """What is wrong with a new object, generic metadata apart."""
    rule = create_of(resource)
    return rule(obj) if rule else []
