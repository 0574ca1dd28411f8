"""Query parameters and option bodies: ListOptions, CreateOptions, UpdateOptions, PatchOptions, DeleteOptions.

Reference: k8s.io/apimachinery ``meta/v1`` types and their validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from multidict import MultiMapping

from orca.api.errors import FieldError, bad_request, invalid_kind
from orca.api.objects import Obj

FIELD_VALIDATIONS = ("Ignore", "Warn", "Strict")
PROPAGATIONS = ("Orphan", "Background", "Foreground")
_META = "meta.k8s.io"


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter, as upstream converts it: absent, 0 and false mean false, all else true, also no value."""
    value = query.get(name)
    return value is not None and value != "0" and value.lower() != "false"


def every(query: Mapping[str, str], name: str) -> list[str]:
    """All values of a parameter, in their order."""
    if isinstance(query, MultiMapping):
        return query.getall(name, [])
    return [query[name]] if name in query else []


_INTEGER = re.compile(r"[+-]?[0-9]+\Z")


def number(query: Mapping[str, str], name: str) -> int | None:
    """An integer parameter; None when absent or empty. Raises ApiError 400."""
    value = query.get(name)
    if not value:
        return None
    if not _INTEGER.match(value):
        raise bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax')
    found = int(value) if len(value) <= 20 else 1 << 63
    if not -(1 << 63) <= found < 1 << 63:
        raise bad_request(f'strconv.ParseInt: parsing "{value}": value out of range')
    return found


@dataclass(slots=True)
class ListOptions:
    """What list, watch and deletecollection take. ``timeout_seconds`` is None when the server may choose."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    send_initial_events: bool | None = None
    timeout_seconds: int | None = None

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ListOptions:
        """Parse and check. Raises ApiError 400 or 422."""
        if not query:
            return cls()
        options = cls(
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            limit=max(number(query, "limit") or 0, 0),
            continue_=query.get("continue", ""),
            resource_version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
            watch=flag(query, "watch"),
            bookmarks=flag(query, "allowWatchBookmarks"),
            send_initial_events=flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
            timeout_seconds=number(query, "timeoutSeconds"),
        )
        options._check()
        return options

    def _check(self) -> None:
        problems: list[FieldError] = []
        if self.watch:
            if self.send_initial_events is not None and self.match != "NotOlderThan":
                problems.append(
                    FieldError.forbidden(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    )
                )
            if self.match:
                problems += self._check_watch_match()
        else:
            if self.send_initial_events is not None:
                problems.append(FieldError.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
            if self.match:
                problems += self._check_match()
        if problems:
            raise invalid_kind(_META, "ListOptions", "", problems)
        if self.continue_ and self.resource_version not in ("", "0") and not self.watch:
            raise bad_request("specifying resource version is not allowed when using continue")

    def _check_watch_match(self) -> Iterator[FieldError]:
        if self.send_initial_events is None:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            yield FieldError.forbidden("resourceVersionMatch", text)
        if self.match != "NotOlderThan":
            yield FieldError.not_supported("resourceVersionMatch", self.match, ("NotOlderThan",))
        if self.continue_:
            text = "resourceVersionMatch is forbidden when continue is provided"
            yield FieldError.forbidden("resourceVersionMatch", text)

    def _check_match(self) -> Iterator[FieldError]:
        if not self.resource_version:
            text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            yield FieldError.forbidden("resourceVersionMatch", text)
        if self.continue_:
            text = "resourceVersionMatch is forbidden when continue is provided"
            yield FieldError.forbidden("resourceVersionMatch", text)
        if self.match not in ("Exact", "NotOlderThan"):
            yield FieldError.not_supported("resourceVersionMatch", self.match, ("Exact", "NotOlderThan", ""))
        if self.match == "Exact" and self.resource_version == "0":
            text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            yield FieldError.forbidden("resourceVersionMatch", text)


@dataclass(slots=True)
class WriteOptions:
    """What create, update and patch take. ``warnings`` collects what the answer's Warning headers will say."""

    dry_run: bool = False
    field_validation: str = ""  # not said: "Warn"
    field_manager: str = ""
    force: bool | None = None  # None: not said
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def from_query(cls, query: Mapping[str, str], kind: str) -> WriteOptions:
        """Parse and check; ``kind`` (CreateOptions …) names the options in errors. Raises ApiError 422."""
        if not query:
            return cls()
        problems: list[FieldError] = []
        dry_run = _dry_run(every(query, "dryRun"), problems)
        validation = query.get("fieldValidation", "")
        if validation and validation not in FIELD_VALIDATIONS:
            problems.append(FieldError.not_supported("fieldValidation", validation, ("", *FIELD_VALIDATIONS)))
        manager = query.get("fieldManager", "")
        if len(manager) > 128:
            problems.append(FieldError.too_long("fieldManager", manager, 128))
        elif not manager.isprintable():
            problems.append(FieldError.invalid("fieldManager", manager, "should only contain printable characters"))
        if problems:
            raise invalid_kind(_META, kind, "", problems)
        return cls(dry_run, validation, manager, flag(query, "force") if "force" in query else None)

    def to_api(self, kind: str) -> Obj:
        """As the options object (CreateOptions, UpdateOptions) that admission webhooks see."""
        made: Obj = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        if self.dry_run:
            made["dryRun"] = ["All"]
        if self.field_manager:
            made["fieldManager"] = self.field_manager
        if self.field_validation:
            made["fieldValidation"] = self.field_validation
        return made


def _dry_run(values: list[str], problems: list[FieldError]) -> bool:
    wanted = [value for value in values if value]
    for value in wanted:
        if value != "All":
            problems.append(FieldError.not_supported("dryRun", values, ("All",)))
            return False
    return bool(wanted)


@dataclass(slots=True)
class DeleteOptions:
    """What delete and deletecollection take, from the body or else from the query.

    ``propagation`` is "" when the client did not choose. ``orphan_dependents`` is the deprecated choice.
    """

    grace_seconds: int | None = None
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""
    orphan_dependents: bool | None = None
    dry_run: bool = False

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> DeleteOptions:
        """Parse and check. Raises ApiError 400 or 422."""
        if not query:
            return cls()
        problems: list[FieldError] = []
        dry_run = _dry_run(every(query, "dryRun"), problems)
        options = cls(
            grace_seconds=number(query, "gracePeriodSeconds"),
            propagation=query.get("propagationPolicy", ""),
            orphan_dependents=flag(query, "orphanDependents") if "orphanDependents" in query else None,
            dry_run=dry_run,
        )
        options._check(problems)
        return options

    @classmethod
    def from_body(cls, body: Obj) -> DeleteOptions:
        """From a DeleteOptions object. Raises ApiError 400 or 422."""
        if body.get("kind") not in ("DeleteOptions", None, ""):
            raise bad_request(
                f"the object provided is unrecognized (must be of type DeleteOptions): got {body.get('kind')!r}"
            )
        preconditions = body.get("preconditions")
        preconditions = {} if preconditions is None else preconditions
        grace, orphan = body.get("gracePeriodSeconds"), body.get("orphanDependents")
        dry_run = body.get("dryRun") or []
        propagation = body.get("propagationPolicy") or ""
        if (
            not isinstance(preconditions, dict)
            or not isinstance(dry_run, list)
            or not isinstance(propagation, str)
            or (grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)))
            or (orphan is not None and not isinstance(orphan, bool))
        ):
            raise bad_request("DeleteOptions: json: cannot unmarshal a field into its type")
        problems: list[FieldError] = []
        options = cls(
            grace_seconds=grace,
            uid=str(preconditions.get("uid") or ""),
            resource_version=str(preconditions.get("resourceVersion") or ""),
            propagation=propagation,
            orphan_dependents=orphan,
            dry_run=_dry_run(dry_run, problems),
        )
        options._check(problems)
        return options

    def to_api(self) -> Obj:
        """As the DeleteOptions object that admission webhooks see."""
        made: Obj = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
        if self.grace_seconds is not None:
            made["gracePeriodSeconds"] = self.grace_seconds
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        if self.uid or self.resource_version:
            made["preconditions"] = {key: value for key, value in preconditions.items() if value}
        if self.orphan_dependents is not None:
            made["orphanDependents"] = self.orphan_dependents
        if self.propagation:
            made["propagationPolicy"] = self.propagation
        if self.dry_run:
            made["dryRun"] = ["All"]
        return made

    def _check(self, problems: list[FieldError]) -> None:
        if self.propagation and self.propagation not in PROPAGATIONS:
            problems.append(
                FieldError.not_supported(
                    "propagationPolicy", self.propagation, ("Foreground", "Background", "Orphan", "nil")
                )
            )
        if self.propagation and self.orphan_dependents is not None:
            problems.append(
                FieldError.invalid(
                    "propagationPolicy",
                    self.propagation,
                    "orphanDependents and deletionPropagation cannot be both set",
                )
            )
        if problems:
            raise invalid_kind(_META, "DeleteOptions", "", problems)
