"""Errors as the API tells them: ``Status`` objects, and field errors worded as upstream's ``field.Error``.

Reference: k8s.io/apimachinery ``api/errors`` and ``util/validation/field``.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orca.api.objects import Obj
from orca.api.resources import Resource

_TYPE_TEXTS = {
    "Required": ("Required value", "FieldValueRequired"),
    "Invalid": ("Invalid value", "FieldValueInvalid"),
    "NotSupported": ("Unsupported value", "FieldValueNotSupported"),
    "Duplicate": ("Duplicate value", "FieldValueDuplicate"),
    "Forbidden": ("Forbidden", "FieldValueForbidden"),
    "TooLong": ("Too long", "FieldValueTooLong"),
    "TooMany": ("Too many", "FieldValueTooMany"),
    "NotFound": ("Not found", "FieldValueNotFound"),
    "TypeInvalid": ("Invalid value", "FieldValueTypeInvalid"),
    "Internal": ("Internal error", "InternalError"),
}
_OMITTED = object()
_WITHOUT_VALUE = {"Required", "Forbidden", "TooLong", "Internal"}
CONFLICT_TEXT = "the object has been modified; please apply your changes to the latest version and try again"


def quote(text: str) -> str:
    """As Go's ``%q`` for the strings that occur here."""
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True)
class FieldError:
    """One wrong field. ``type`` is a key of upstream's error types without the prefix, ``field`` its path."""

    type: str
    field: str
    value: Any = None
    detail: str = ""

    @classmethod
    def required(cls, field: str, detail: str = "") -> "FieldError":
        """The field is missing or empty."""
        return cls("Required", field, "", detail)

    @classmethod
    def invalid(cls, field: str, value: Any, detail: str) -> "FieldError":
        """The value is malformed."""
        return cls("Invalid", field, value, detail)

    @classmethod
    def invalid_without_value(cls, field: str, detail: str) -> "FieldError":
        """The value is malformed, and telling it would not help: upstream's ``OmitValueType``."""
        return cls("Invalid", field, _OMITTED, detail)

    @classmethod
    def type_invalid(cls, field: str, value: Any, detail: str) -> "FieldError":
        """The value's type is wrong."""
        return cls("TypeInvalid", field, value, detail)

    @classmethod
    def not_supported(cls, field: str, value: Any, supported: Iterable[str]) -> "FieldError":
        """The value is none of the known ones."""
        known = ", ".join(quote(one) for one in supported)
        return cls("NotSupported", field, value, f"supported values: {known}" if known else "")

    @classmethod
    def duplicate(cls, field: str, value: Any) -> "FieldError":
        """The value must be unique and is not."""
        return cls("Duplicate", field, value)

    @classmethod
    def forbidden(cls, field: str, detail: str) -> "FieldError":
        """The field may not be set (or changed) here."""
        return cls("Forbidden", field, "", detail)

    @classmethod
    def too_long(cls, field: str, value: Any, limit: int) -> "FieldError":
        """A string longer than ``limit`` bytes."""
        return cls("TooLong", field, value, f"may not be more than {limit} bytes" if limit >= 0 else "")

    @classmethod
    def too_many(cls, field: str, count: int, limit: int) -> "FieldError":
        """A list longer than ``limit``."""
        return cls("TooMany", field, count, f"must have at most {limit} item{'' if limit == 1 else 's'}")

    @classmethod
    def not_found(cls, field: str, value: Any) -> "FieldError":
        """The value refers to something that does not exist."""
        return cls("NotFound", field, value)

    @property
    def reason(self) -> str:
        """The cause's reason, e.g. ``FieldValueRequired``."""
        return _TYPE_TEXTS[self.type][1]

    @property
    def body(self) -> str:
        """Upstream's ``ErrorBody``: the message without the field."""
        text = _TYPE_TEXTS[self.type][0]
        if self.type not in _WITHOUT_VALUE and self.value is not _OMITTED:
            text = f"{text}: {_go_value(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


class ApiError(Exception):
    """An answer that is a ``Status`` with ``status: Failure``."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def __repr__(self) -> str:
        return f"ApiError({self.code} {self.reason}: {self.message})"

    def __str__(self) -> str:
        return self.message

    def status(self) -> Obj:
        """The ``Status`` object of the answer."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if not self.reason:
            del body["reason"]
        if self.details:
            body["details"] = self.details
        body["code"] = self.code
        return body

    @property
    def retry_after(self) -> int | None:
        """Seconds the server asks to wait, when it does."""
        seconds = (self.details or {}).get("retryAfterSeconds")
        return int(seconds) if seconds else None

    @classmethod
    def from_status(cls, status: Obj, code: int = 500) -> "ApiError":
        """From a decoded ``Status``; ``code`` is the HTTP status for bodies that carry none."""
        return cls(
            int(status.get("code") or code),
            status.get("reason") or "",
            status.get("message") or "",
            status.get("details"),
        )


def _details(resource: Resource, name: str) -> Obj:
    found: Obj = {}
    if name:
        found["name"] = name
    if resource.group:
        found["group"] = resource.group
    found["kind"] = resource.plural
    return found


def not_found(resource: Resource, name: str) -> ApiError:
    """404 for an object."""
    text = f"{resource.group_resource} {quote(name)} not found"
    return ApiError(404, "NotFound", text, _details(resource, name))


def no_such_page() -> ApiError:
    """404 for a path nobody serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409 on create."""
    text = f"{resource.group_resource} {quote(name)} already exists"
    return ApiError(409, "AlreadyExists", text, _details(resource, name))


def no_name_generated(resource: Resource, name: str) -> ApiError:
    """409 on a create with ``generateName`` whose every attempt met a name in use."""
    why = "the server was not able to generate a unique name for the object"
    text = f"{resource.group_resource} {quote(name)} already exists, {why}"
    return ApiError(409, "AlreadyExists", text, {**_details(resource, name), "retryAfterSeconds": 1})


def conflict(resource: Resource, name: str, why: str = CONFLICT_TEXT) -> ApiError:
    """409 on an update whose precondition does not hold."""
    text = f"Operation cannot be fulfilled on {resource.group_resource} {quote(name)}: {why}"
    return ApiError(409, "Conflict", text, _details(resource, name))


def conflict_kind(group: str, kind: str, name: str, why: str) -> ApiError:
    """:func:`conflict` for bodies that are no resource of their own."""
    details: Obj = {"name": name, **({"group": group} if group else {}), "kind": kind}
    shown = f"{kind}.{group}" if group else kind
    return ApiError(409, "Conflict", f"Operation cannot be fulfilled on {shown} {quote(name)}: {why}", details)


def invalid(resource: Resource, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422 with one cause a field error."""
    return invalid_kind(resource.group, resource.kind, name, errors)


_MOST_TOLD = 256 * 1024
"""Characters of errors; one more than that is told. A body of 3 MiB can have errors of 100."""


def _told(errors: Sequence[FieldError]) -> Sequence[FieldError]:
    """The errors, or as many of the first as an answer should hold."""
    if len(errors) <= 100:
        return errors
    length = 0
    for index, error in enumerate(errors):
        length += len(error.field) + len(error.body)
        if length > _MOST_TOLD:
            return errors[: index + 1]
    return errors


def invalid_kind(group: str, kind: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    """:func:`invalid` for bodies that are no resource of their own (Scale, Eviction …)."""
    told = _told(errors)
    unique = list(dict.fromkeys(str(error) for error in told))
    if len(told) < len(errors):
        unique.append(f"and {len(errors) - len(told)} more")
    listed = unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]"
    details: Obj = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details["causes"] = [{"reason": e.reason, "message": e.body, "field": e.field} for e in told]
    shown = f"{kind}.{group}" if group else kind
    return ApiError(422, "Invalid", f"{shown} {quote(name)} is invalid: {listed}", details)


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Resource | None, name: str, why: str) -> ApiError:
    """403; without a resource the message is ``forbidden: why`` (paths that are no resource)."""
    if resource is None:
        return ApiError(403, "Forbidden", f"forbidden: {why}", {})
    if name:
        text = f"{resource.group_resource} {quote(name)} is forbidden: {why}"
    else:
        text = f"{resource.group_resource} is forbidden: {why}"
    return ApiError(403, "Forbidden", text, _details(resource, name))


def unauthorized() -> ApiError:
    """401."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiError:
    """405."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415."""
    text = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", text)


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """406."""
    text = "only the following media types are accepted: " + ", ".join(accepted)
    return ApiError(406, "NotAcceptable", text)


def expired(message: str = "The resourceVersion for the provided watch is too old.") -> ApiError:
    """410 of a watch or a list continuation that is too old."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """413; ``limit`` in bytes."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def timeout(message: str, retry_after: int = 0) -> ApiError:
    """504."""
    details = {"retryAfterSeconds": retry_after} if retry_after else {}
    return ApiError(504, "Timeout", f"Timeout: {message}", details)


def too_many_requests(message: str, retry_after: int = 1) -> ApiError:
    """429; ``retry_after`` in seconds."""
    return ApiError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})


def http_version_not_supported() -> ApiError:
    """505: the request says it is of an HTTP that this server does not speak on such a connection."""
    return ApiError(505, "", "unsupported protocol version; this server speaks HTTP/1.1")


def internal(message: str) -> ApiError:
    """500."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})


def service_unavailable(message: str) -> ApiError:
    """503."""
    return ApiError(503, "ServiceUnavailable", message)


def is_not_found(error: BaseException) -> bool:
    """404 NotFound."""
    return isinstance(error, ApiError) and error.reason == "NotFound"


def is_conflict(error: BaseException) -> bool:
    """409 Conflict."""
    return isinstance(error, ApiError) and error.reason == "Conflict"


def is_already_exists(error: BaseException) -> bool:
    """409 AlreadyExists."""
    return isinstance(error, ApiError) and error.reason == "AlreadyExists"


def is_expired(error: BaseException) -> bool:
    """410 of either kind: list again."""
    return isinstance(error, ApiError) and error.code == 410


def is_away(error: BaseException) -> bool:
    """503 or 504: the server, or etcd behind it, was not heard. What became of the request is unknown; it can be asked
    again."""
    return isinstance(error, ApiError) and error.code in (503, 504)
