"""What happens to an object of a kind on its way in: resets, defaults, validation, generation.

Kinds fill the registry with ``register(resource, defaults=…, validate_create=…, …)`` from modules under
``orca.api.strategies``, which is imported on first use; several modules may each register their part of one kind.
The order of a create is ``prepare_create``, ``apply_defaults``, ``validate_create``; of an update
``apply_defaults(new)``, ``prepare_update``, ``validate_update``. Everything works in place on ``new``, which belongs
to the caller; ``old`` is frozen.
"""

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from orca.api import errors, metadata
from orca.api.builtin import (
    APISERVICES,
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    FLOWSCHEMAS,
    INGRESSCLASSES,
    INGRESSES,
    JOBS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NETWORKPOLICIES,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    PODTEMPLATES,
    PRIORITYCLASSES,
    PRIORITYLEVELCONFIGURATIONS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCESLICES,
    STATEFULSETS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    VOLUMEATTACHMENTS,
)
from orca.api.objects import Obj, ensure_meta, meta, same
from orca.api.resources import Resource

Defaults = Callable[[Obj], None]
"""(obj) in place."""
Prepare = Callable[[Obj], None]
"""(obj) in place, after the generic part."""
PrepareUpdate = Callable[[Obj, Obj, str], None]
"""(new, old, subresource) in place, after the generic part, before the generation is decided."""
ValidateCreate = Callable[[Obj], list[errors.FieldError]]
"""(obj) -> errors; ``metadata`` is validated generically besides."""
ValidateUpdate = Callable[[Obj, Obj, str], list[errors.FieldError]]
"""(new, old, subresource) -> errors; immutable ``metadata`` is validated generically besides."""
Graceful = Callable[[Obj], int | None]
"""(obj) -> seconds of grace of a deletion that names none; None: deleted at once."""
NameRule = Callable[[str], list[str]]
"""(name) -> messages."""
Decode = Callable[[Obj], list[str]]
"""(obj) -> paths of unknown fields, which it removed in place; instead of the schema's. Raises ApiError 400."""
PrepareDelete = Callable[[Obj, str], None]
"""(obj, now) in place, when its deletion is asked for the first time; may add finalizers."""
RefuseCreate = Callable[[], None]
"""Raises ApiError while the kind takes no new objects."""


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where an object has what its Scale shows: steps from the object's root."""

    spec: tuple[str, ...]
    status: tuple[str, ...]
    selector: tuple[str, ...] = ()


class Versions(Protocol):
    """How the stored objects of a kind become what one of its rows serves."""

    api_version: str
    """The row's."""
    hook: Callable[[list[Obj], str], Awaitable[list[Obj]]] | None
    """(objects, wanted apiVersion) -> converted ones; None when versions differ in name only. Raises ApiError."""

    def is_mine(self, raw: bytes) -> bool:
        """Whether a stored object is of the row's version."""

    def settle(self, obj: Obj) -> Obj:
        """A stored object, of the row's version or renamed to it, as it is served; itself where that is the same."""

    def read(self, obj: Obj) -> Obj:
        """A stored object as its own version has it, before it is converted."""

    def converted(self, obj: Obj) -> Obj:
        """A converted object as the row's version has it."""

    def to_stored(self, obj: Obj, api_version: str) -> Obj:
        """An object that was converted to ``api_version``, as that one has it."""


@dataclass(slots=True)
class Strategy:
    """Per-kind behaviour; None means nothing besides the generic part."""

    defaults: Defaults | None = None
    prepare_create: Prepare | None = None
    prepare_update: PrepareUpdate | None = None
    validate_create: ValidateCreate | None = None
    validate_update: ValidateUpdate | None = None
    graceful: Graceful | None = None
    name_rule: NameRule | None = None
    create_on_update: bool = False
    dependents: str = "delete"  # what a deletion that does not say so does to them: delete, orphan, or ignore always
    generation: bool = False
    status_fields: tuple[str, ...] = ("status",)
    empty_status: Callable[[], Obj] | None = None  # what is there before anybody wrote one; None: nothing is
    decode: Decode | None = None
    refuse_create: RefuseCreate | None = None
    prepare_delete: PrepareDelete | None = None
    scale: ScalePaths | None = None
    versions: Versions | None = None


_BY_ROW: dict[tuple[str, str, str], Strategy] = {}
_PLAIN = Strategy()
_CUSTOM = Strategy(generation=True)
_loaded = False


def register(resource: Resource, **parts: Any) -> None:
    """Add parts (names of :class:`Strategy`'s fields) to the behaviour of a row (of its group, version and plural)."""
    strategy = _BY_ROW.setdefault((resource.group, resource.version, resource.plural), Strategy())
    for part, value in parts.items():
        setattr(strategy, part, value)


def put(resource: Resource, strategy: Strategy) -> None:
    """Replace the behaviour of a row."""
    _BY_ROW[resource.group, resource.version, resource.plural] = strategy


def drop(resource: Resource) -> None:
    """Forget the behaviour of a row."""
    _BY_ROW.pop((resource.group, resource.version, resource.plural), None)


def of(resource: Resource) -> Strategy:
    """The row's strategy."""
    global _loaded
    if not _loaded:
        _loaded = True
        importlib.import_module("orca.api.strategies")
    found = _BY_ROW.get((resource.group, resource.version, resource.plural))
    if found is not None:
        return found
    return _CUSTOM if resource.custom else _PLAIN


def prepare_create(resource: Resource, obj: Obj) -> None:
    """Remove what a client may not set: status, system metadata; start the generation."""
    strategy = of(resource)
    fields = ensure_meta(obj)
    if not metadata.SYSTEM_FIELDS.isdisjoint(fields):
        for field in metadata.SYSTEM_FIELDS:
            fields.pop(field, None)
    if resource.has("status") and resource not in _BORN_WITH_STATUS:
        for field in strategy.status_fields:
            obj.pop(field, None)
        if strategy.empty_status is not None:
            obj["status"] = strategy.empty_status()
    fields.pop("generation", None)
    if strategy.generation:
        fields["generation"] = 1
    if strategy.prepare_create:
        strategy.prepare_create(obj)


def prepare_update(resource: Resource, new: Obj, old: Obj, subresource: str = "") -> None:
    """Keep what this door may not change: status through the main one, everything else through ``status``.

    Bumps ``metadata.generation`` when the desired state changed.
    """
    strategy = of(resource)
    metadata.keep_system_fields(new, old)
    if subresource in ("status", "approval"):
        _only_status(resource, strategy, new, old)
    elif resource.has("status"):
        for field in strategy.status_fields:
            _restore(new, old, field)
    if strategy.empty_status is not None and new.get("status") is None:
        new["status"] = strategy.empty_status()
    if strategy.prepare_update:
        strategy.prepare_update(new, old, subresource)
    fields = ensure_meta(new)
    generation = meta(old).get("generation")
    if generation is None:
        fields.pop("generation", None)
    else:
        fields["generation"] = generation
    if strategy.generation and subresource != "status" and _desire_changed(resource, strategy, new, old):
        fields["generation"] = (generation or 0) + 1


def _only_status(resource: Resource, strategy: Strategy, new: Obj, old: Obj) -> None:
    for field in (set(new) | set(old)) - {*strategy.status_fields, "metadata", "apiVersion", "kind"}:
        _restore(new, old, field)
    kept = dict(meta(old)) if resource.custom else dict(meta(new))
    for field in ("resourceVersion", "managedFields"):
        kept.pop(field, None)
        if field in meta(new):
            kept[field] = meta(new)[field]
    if not resource.custom:
        for field in _CLOSED_TO_STATUS.get(resource, ()):
            _restore(kept, meta(old), field)
    new["metadata"] = kept


def _restore(new: Obj, old: Obj, field: str) -> None:
    if field not in old:
        new.pop(field, None)
        return
    # Mostly it is as it was, which encodings tell exactly (1, 1.0 and true are equal in Python).
    kept = orjson.dumps(old[field])
    if field not in new or orjson.dumps(new[field]) != kept:
        new[field] = orjson.loads(kept)


def _desire_changed(resource: Resource, strategy: Strategy, new: Obj, old: Obj) -> bool:
    passive = {*strategy.status_fields, "metadata", "apiVersion", "kind"}
    if any(not same(new.get(field), old.get(field)) for field in (set(new) | set(old)) - passive):
        return True
    return resource in _ANNOTATIONS_ARE_DESIRE and meta(new).get("annotations") != meta(old).get("annotations")


def apply_defaults(resource: Resource, obj: Obj) -> None:
    """Fill what the kind's API defaults, in place."""
    strategy = of(resource)
    if strategy.defaults:
        strategy.defaults(obj)


def validate_create(resource: Resource, obj: Obj) -> list[errors.FieldError]:
    """Errors of a new object: metadata, then the kind's own."""
    strategy = of(resource)
    found = metadata.validate(resource, obj, strategy.name_rule)
    if strategy.validate_create:
        found += strategy.validate_create(obj)
    return found


def validate_update(resource: Resource, new: Obj, old: Obj, subresource: str = "") -> list[errors.FieldError]:
    """Errors of a changed object: metadata, immutable metadata, then the kind's own."""
    strategy = of(resource)
    found = metadata.validate_update(resource, new, old)
    if strategy.validate_update:
        found += strategy.validate_update(new, old, subresource)
    elif strategy.validate_create and not subresource:
        found += strategy.validate_create(new)
    return found


def allow_create_on_update(resource: Resource) -> bool:
    """Whether a PUT of a missing object creates it."""
    return of(resource).create_on_update


def dependents(resource: Resource) -> str:
    """What a deletion that names no propagation means for dependents: ``delete``, ``orphan``, or ``ignore``.

    With ``ignore`` the kind has none, whatever the deletion asks for.
    """
    return of(resource).dependents


def graceful(resource: Resource, obj: Obj) -> int | None:
    """Seconds of grace a deletion gets that names none; None for kinds that go at once."""
    rule = of(resource).graceful
    return rule(obj) if rule else None


# Deployments count annotation changes as desired state: the rollout controller copies them to ReplicaSets.
_ANNOTATIONS_ARE_DESIRE = {DEPLOYMENTS}
_SYSTEM_ONLY = ("labels", "annotations", "finalizers", "ownerReferences")
_CLOSED_TO_STATUS: dict[Resource, tuple[str, ...]] = {
    DEPLOYMENTS: ("labels",),
    PODS: ("ownerReferences",),
    **dict.fromkeys(
        (
            APISERVICES,
            CUSTOMRESOURCEDEFINITIONS,
            FLOWSCHEMAS,
            PRIORITYLEVELCONFIGURATIONS,
            RESOURCECLAIMS,
            VALIDATINGADMISSIONPOLICIES,
            VOLUMEATTACHMENTS,
        ),
        _SYSTEM_ONLY,
    ),
}
"""Metadata that the status door leaves alone; through that of all other kinds it changes as through the main one.

As upstream's status strategies have it, one by one. Of custom objects no metadata changes.
"""
# Agents register their node with what it can do.
_BORN_WITH_STATUS = {NODES}

for _row in (
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    FLOWSCHEMAS,
    INGRESSCLASSES,
    INGRESSES,
    JOBS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NETWORKPOLICIES,
    PODDISRUPTIONBUDGETS,
    PODS,
    PODTEMPLATES,
    PRIORITYCLASSES,
    PRIORITYLEVELCONFIGURATIONS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCESLICES,
    STATEFULSETS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
):
    register(_row, generation=True)
