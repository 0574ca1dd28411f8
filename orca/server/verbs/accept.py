"""Is a body what this door takes? Group, version and kind; types of fields; unknown and duplicate fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orca.api import strategy
from orca.api.errors import FieldError, bad_request, invalid_kind
from orca.api.objects import Obj, ensure_meta, meta
from orca.api.repeated import MAX_STRICT_ERRORS, Repeated
from orca.api.resources import Resource, Subresource
from orca.api.schema import decode, undecodable
from orca.server.options import WriteOptions

_YAML = ("yaml: unmarshal errors:\n", "error converting YAML to JSON: yaml: unmarshal errors:\n")


def as_warnings(problems: Sequence[str]) -> Iterator[str]:
    """One text for each line of YAML that repeats a key; all others as they are."""
    for problem in problems:
        start = next((start for start in _YAML if problem.startswith(start)), "")
        if start:
            yield from (line.strip() for line in problem.removeprefix(start).split("\n"))
        else:
            yield problem


def check_kind(obj: Obj, api_version: str, kind: str, *, custom: bool = False) -> None:
    """Complete ``apiVersion`` and ``kind`` where the body leaves them open. Raises ApiError 400 for other ones, and
    where a custom object does not say them; 422 for another kind in place of a custom one."""
    said_version, said_kind = obj.get("apiVersion"), obj.get("kind")
    if said_version == api_version and said_kind == kind:
        return
    if custom and not said_kind:
        raise bad_request("Object 'Kind' is missing in 'object has no kind field '")
    if not said_version and not custom:
        obj["apiVersion"] = api_version
    elif said_version != api_version:
        said = said_version or ""
        raise bad_request(
            f"the API version in the data ({said}) does not match the expected API version ({api_version})"
        )
    if not said_kind:
        obj["kind"] = kind
    elif said_kind != kind:
        if custom and isinstance(said_kind, str):
            named = meta(obj).get("name") if isinstance(obj.get("metadata"), dict) else ""
            problem = FieldError.invalid("kind", said_kind, f"must be {kind}")
            raise invalid_kind(api_version.rpartition("/")[0], said_kind, str(named or ""), [problem])
        version = api_version.rpartition("/")[2]
        raise bad_request(
            f'{said_kind} in version "{version}" cannot be handled as a {kind}: '
            f"converting ({api_version}.{said_kind}) to ({api_version}.{kind}): unknown conversion"
        )


def accept(
    resource: Resource,
    obj: Obj,
    options: WriteOptions,
    *,
    subresource: Subresource | None = None,
    duplicates: Sequence[str] = (),
) -> Obj:
    """A decoded body as an object of its kind, without what the kind does not know.

    ``duplicates`` are texts about members that occur twice. Raises ApiError 400 for another kind, for a field of the
    wrong type, and with ``fieldValidation=Strict`` for unknown or duplicate fields; with ``Warn`` they become warnings.
    """
    if subresource is not None and subresource.kind:
        if obj.get("apiVersion") in subresource.also:
            obj["apiVersion"] = subresource.api_version
        check_kind(obj, subresource.api_version, subresource.kind)
        definition = subresource.definition
    else:
        check_kind(obj, resource.api_version, resource.kind, custom=resource.custom)
        definition = resource.definition
    decoder = strategy.of(resource).decode if resource.custom and definition == resource.definition else None
    if decoder is not None:
        unknown = [f'unknown field "{path}"' for path in decoder(obj)]
    else:
        obj, unknown = decode(resource, obj, refuse_unknown=False, warn=True, definition=definition)
    ensure_meta(obj)
    # Types are checked while the document is read, custom kinds' and YAML's fields afterwards.
    problems = [*duplicates, *unknown]
    if decoder is None:
        read_in_one_go = duplicates.among(unknown) if isinstance(duplicates, Repeated) else problems
        problems = read_in_one_go[:MAX_STRICT_ERRORS]
    if not problems or options.field_validation == "Ignore":
        return obj
    if options.field_validation == "Strict":
        raise undecodable(resource, "strict decoding error: " + ", ".join(problems), definition)
    options.warnings.extend(as_warnings(problems))
    return obj
