"""Where a webhook is: of admission, and of conversion.

Reference: k8s.io/apiserver ``pkg/util/webhook/validation.go``.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_FORM = "; desired format: https://host[/path]"


def client_config(obj: Obj, path: str, out: Errors) -> None:
    """A URL or a service."""
    url, service = obj.get("url"), obj.get("service")
    if (url is None) == (service is None):
        out.append(FieldError.required(path, "exactly one of url or service is required"))
    elif url is not None:
        _url(url, f"{path}.url", out)
    elif service is not None:
        _service(service, f"{path}.service", out)


def _url(url: str, path: str, out: Errors) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - judged when it is asked for
    except ValueError as error:
        out.append(FieldError.required(path, f"url must be a valid URL: {error}{_FORM}"))
        return
    user, _, host = parts.netloc.rpartition("@")
    if parts.scheme != "https":
        text = f"'https' is the only allowed URL scheme{_FORM}"
        out.append(FieldError.invalid(path, parts.scheme, text))
    if not host:
        out.append(FieldError.invalid(path, host, f"host must be specified{_FORM}"))
    if "@" in parts.netloc:
        out.append(FieldError.invalid(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        out.append(FieldError.invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        out.append(FieldError.invalid(path, parts.query, "query parameters are not permitted in the URL"))


def _service(service: Obj, path: str, out: Errors) -> None:
    common.required(service, "name", path, out, "service name is required")
    common.required(service, "namespace", path, out, "service namespace is required")
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        text = f"port is not valid: {names.in_range(1, 65535)}"
        out.append(FieldError.invalid(f"{path}.port", port, text))
    where = service.get("path") or "/"
    if where == "/":
        return
    at = f"{path}.path"
    if where == "//":
        out.append(FieldError.invalid(at, where, "segment[0] may not be empty"))
        return
    if not where.startswith("/"):
        out.append(FieldError.invalid(at, where, "must start with a '/'"))
    for i, step in enumerate(where[1:].removesuffix("/").split("/")):
        if not step:
            out.append(FieldError.invalid(at, where, f"segment[{i}] may not be empty"))
            continue
        common.messages((f"segment[{i}]: {text}" for text in names.dns1123_subdomain(step)), where, at, out)
