"""Probes and lifecycle hooks, and the handlers both use."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_TIMES = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def _http(action: Obj, path: str, out: Errors) -> None:
    common.required(action, "path", path, out)
    common.port(action.get("port"), f"{path}.port", out)
    common.choice(action.get("scheme"), ("HTTP", "HTTPS"), f"{path}.scheme", out, required=True)
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        common.messages(names.http_header_name(name), name, f"{path}.httpHeaders", out)


def _sleep(action: Obj, grace: int | None, path: str, out: Errors) -> None:
    seconds = action.get("seconds")
    if grace is not None and (seconds is None or seconds < 0 or seconds > grace):
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        out.append(FieldError.invalid(path, seconds if seconds is not None else 0, text))


def _handler(obj: Obj, path: str, out: Errors, grace: int | None) -> None:
    found = 0
    for kind in _HANDLERS:
        action = obj.get(kind)
        if action is None:
            continue
        if found:
            out.append(FieldError.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type"))
            continue
        found = 1
        at = f"{path}.{kind}"
        if kind == "exec":
            common.required(action, "command", at, out)
        elif kind == "httpGet":
            _http(action, at, out)
        elif kind == "sleep":
            _sleep(action, grace, at, out)
        else:
            common.port(action.get("port"), f"{at}.port", out)
    if not found:
        out.append(FieldError.required(path, "must specify a handler type"))


def probe(obj: Obj, path: str, out: Errors, *, kind: str) -> None:
    """One probe; *kind* is ``liveness``, ``readiness`` or ``startup``."""
    _handler(obj, path, out, None)
    for key in _TIMES:
        value = obj.get(key)
        if value is not None and value < 0:
            out.append(FieldError.invalid(f"{path}.{key}", value, common.NON_NEGATIVE))
    grace = obj.get("terminationGracePeriodSeconds")
    if grace is not None:
        if kind == "readiness":
            text = "must not be set for readinessProbes"
            out.append(FieldError.invalid(f"{path}.terminationGracePeriodSeconds", grace, text))
        elif grace <= 0:
            out.append(FieldError.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if kind != "readiness" and obj.get("successThreshold", 1) != 1:
        out.append(FieldError.invalid(f"{path}.successThreshold", obj["successThreshold"], "must be 1"))


def lifecycle(obj: Obj, path: str, out: Errors, grace: int | None) -> None:
    """``lifecycle`` of a container; *grace* is the pod's terminationGracePeriodSeconds."""
    for hook in ("postStart", "preStop"):
        handler = obj.get(hook)
        if handler is not None:
            _handler(handler, f"{path}.{hook}", out, grace)
