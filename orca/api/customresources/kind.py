"""What happens to the objects of one served version of a custom kind; compiled when the first object comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from orca.api.customresources import defaulting, embedded, gate, lists, numbers, pruning, scale, structural, values
from orca.api.customresources.structural import Structural
from orca.api.errors import ApiError, FieldError
from orca.api.objects import Obj, thaw
from orca.api.resources import Resource
from orca.api.schema import undecodable

if TYPE_CHECKING:
    from orca.api.cel.rules import Rules
    from orca.api.strategy import ScalePaths

Hook = Callable[[list[Obj], str], Awaitable[list[Obj]]]
"""(objects, wanted apiVersion) -> the objects in that version. Raises ApiError."""

_BLOCKING = frozenset({"NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid"})
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)


class CustomKind:
    """``load`` gives the version's ``openAPIV3Schema``; ``hook`` converts between versions, None: they differ in name
    only. ``terminating`` kinds take no new objects. ``scale`` says what their Scale is read from, ``others`` gives the
    definition's further versions by apiVersion, also those that are not served."""

    def __init__(
        self,
        row: Resource,
        load: Callable[[], Obj],
        *,
        hook: Hook | None = None,
        terminating: bool = False,
        scale: ScalePaths | None = None,
        others: Callable[[str], CustomKind | None] = lambda _: None,
    ) -> None:
        self.row = row
        self.api_version = row.api_version
        self.hook = hook
        self._load = load
        self._terminating = terminating
        self._scale = scale
        self._others = others
        self._known: dict[str, CustomKind | None] = {}
        self._head = b'{"apiVersion":%b,' % orjson.dumps(row.api_version)

    def __repr__(self) -> str:
        return f"<CustomKind {self.row.api_version} {self.row.kind}>"

    @cached_property
    def schema(self) -> Obj:
        """``openAPIV3Schema``, frozen."""
        return self._load() or {"type": "object", structural.PRESERVE: True}

    @cached_property
    def tree(self) -> Structural:
        """The schema as a tree."""
        return structural.rooted(self.schema)

    @cached_property
    def _shape(self) -> Any:
        return gate.shape(self.schema)

    @cached_property
    def _values(self) -> Any:
        return gate.values(self.schema)

    @cached_property
    def _compiled_rules(self) -> Rules:
        # Here, because most kinds have no rules, and what evaluates them is large.
        from orca.api.cel.rules import compile_rules

        return compile_rules(self.schema)

    # -- on the way in

    def refuse_create(self) -> None:
        """Raises ApiError 405 while the definition is being deleted."""
        if self._terminating:
            text = "create not allowed while custom resource definition is terminating"
            details = {"group": self.row.group, "kind": self.row.plural}
            raise ApiError(405, "MethodNotAllowed", text, details)

    def decode(self, obj: Obj) -> list[str]:
        """Remove what the kind does not know, in place; the paths of it. Raises ApiError 400."""
        numbers.settle(obj)
        problem, unknown = embedded.settle_metadata(obj)
        if problem:
            raise undecodable(self.row, problem)
        if not self._shape.is_valid(obj):
            unknown += pruning.prune(obj, self.tree)
            pruning.drop_nulls(obj, self.tree)
        problem, more = embedded.settle_embedded(obj, self.tree)
        if problem:
            raise undecodable(self.row, problem)
        return unknown + more

    def defaults(self, obj: Obj) -> None:
        """Fill in the schema's defaults, in place."""
        defaulting.fill(obj, self.tree)

    def validate_create(self, obj: Obj) -> list[FieldError]:
        """Errors of a new object."""
        found = self._check(obj, values.ABSENT)
        if self._scale is not None:
            found += scale.check(obj, self._scale)
        found += embedded.check(obj, self.tree)
        found += lists.check(obj, self.tree)
        return found + self._rules(obj, None, found)

    def validate_update(self, new: Obj, old: Obj, subresource: str) -> list[FieldError]:
        """Errors of a changed object; what was wrong and did not change is tolerated."""
        found = self._check(new, old)
        if self._scale is not None:
            found += scale.check(new, self._scale, subresource)
        found += embedded.check(new, self.tree)
        repeated = lists.check(new, self.tree)
        if repeated and not lists.check(old, self.tree):
            found += repeated
        return found + self._rules(new, old, found)

    def _check(self, obj: Obj, old: Any) -> list[FieldError]:
        if self._values is not None and self._values.is_valid(obj):
            return []
        return values.check(obj, self.schema, "", old)

    def _rules(self, new: Obj, old: Obj | None, found: list[FieldError]) -> list[FieldError]:
        """Errors of ``x-kubernetes-validations``, which are evaluated on objects whose values are in order."""
        if not self.tree.ruled:
            return []
        if any(error.type in _BLOCKING for error in found):
            return [FieldError.invalid(values.NO_PATH, None, _NOT_CHECKED)]
        return self._compiled_rules.validate(new, old)

    # -- on the way out

    def is_mine(self, raw: bytes) -> bool:
        """Whether a stored object is of this version."""
        return raw.startswith(self._head)

    def settle(self, obj: Obj) -> Obj:
        """A stored object as it is served: without what the schema does not know, with defaults. Itself when that
        changes nothing. One of another version, when versions differ in name only, has that one's defaults, unless
        the definition does not know it any more."""
        version = self._other(obj.get("apiVersion") or "")
        if version is None or version is self:
            return self._in_shape(self._renamed(obj), defaults=True)
        return self.converted(version.settle(obj))

    def read(self, obj: Obj) -> Obj:
        """A stored object as its own version has it, of which alone upstream fills in defaults."""
        version = self._other(obj.get("apiVersion") or "")
        return obj if version is None else version.settle(obj)

    def converted(self, obj: Obj) -> Obj:
        """An object of another version, or what a webhook made of it, as this one has it."""
        return self._in_shape(self._renamed(obj), defaults=False)

    def to_stored(self, obj: Obj, api_version: str) -> Obj:
        """An object that was converted to the version it is to be stored in, as that one has it."""
        version = self._other(api_version)
        return obj if version is None else version.converted(obj)

    def _renamed(self, obj: Obj) -> Obj:
        return obj if obj.get("apiVersion") == self.api_version else {**obj, "apiVersion": self.api_version}

    def _other(self, api_version: str) -> CustomKind | None:
        if api_version == self.api_version:
            return self
        if api_version not in self._known:
            self._known[api_version] = self._others(api_version)
        return self._known[api_version]

    def _in_shape(self, obj: Obj, *, defaults: bool) -> Obj:
        complete = not defaults or defaulting.is_complete(obj, self.tree)
        if complete and not self.tree.embeds and self._shape.is_valid(obj):
            return obj
        made = thaw(obj)
        if defaults:
            defaulting.fill(made, self.tree)
        if not self._shape.is_valid(made):
            pruning.prune(made, self.tree)
            pruning.drop_nulls(made, self.tree)
        embedded.settle_embedded(made, self.tree, lenient=True)
        return obj if made == obj else made
