"""Probes and lifecycle hooks, and the handlers both use."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_LINUX_SIGNALS = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT RTMAX "
    + " ".join(f"RTMAX-{i}" for i in range(1, 15))
    + " RTMIN "
    + " ".join(f"RTMIN+{i}" for i in range(1, 16))
    + " SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ"
)
_SIGNALS = {
    "linux": tuple(sorted(f"SIG{name}" for name in _LINUX_SIGNALS.split())),
    "windows": ("SIGKILL", "SIGTERM"),
}
_TIMES = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def _http(action: Obj, path: str, out: Errors) -> None:
    common.required(action, "path", path, out)
    common.port(action.get("port"), f"{path}.port", out)
    scheme = action.get("scheme") or ""
    if scheme not in ("HTTP", "HTTPS"):
        out.append(FieldError.not_supported(f"{path}.scheme", scheme, ("HTTP", "HTTPS")))
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
        at = f"{path}.terminationGracePeriodSeconds"
        if grace <= 0:
            out.append(FieldError.invalid(at, grace, "must be greater than 0"))
        if kind == "readiness":
            out.append(FieldError.invalid(at, grace, "must not be set for readinessProbes"))
    if kind != "readiness" and obj.get("successThreshold", 1) != 1:
        out.append(FieldError.invalid(f"{path}.successThreshold", obj["successThreshold"], "must be 1"))


def lifecycle(obj: Obj, path: str, out: Errors, grace: int | None, system: str | None) -> None:
    """``lifecycle`` of a container; *grace* and *system* are the pod's seconds to end and its ``os``, if it has one."""
    for hook in ("postStart", "preStop"):
        handler = obj.get(hook)
        if handler is not None:
            _handler(handler, f"{path}.{hook}", out, grace)
    signal = obj.get("stopSignal")
    if signal is None:
        return
    if system is None:
        text = "may not be set for containers with empty `spec.os.name`"
        out.append(FieldError.forbidden(f"{path}.stopSignal", text))
    elif system in _SIGNALS and signal not in _SIGNALS[system]:
        out.append(FieldError.not_supported(f"{path}.stopSignal", signal, _SIGNALS[system]))
