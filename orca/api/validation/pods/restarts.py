"""Which containers come back when they end: policies and rules of a container, and what a status may say then."""

from __future__ import annotations

from orca.api.errors import FieldError
from orca.api.validation.registry import Errors, Obj

_POLICIES = ("Always", "Never", "OnFailure")
_ACTIONS = ("Restart", "RestartAllContainers")
_OPERATORS = ("In", "NotIn")
_MOST_RULES, _MOST_CODES = 20, 255


def policy(container: Obj, path: str, out: Errors, *, init: bool) -> None:
    """``restartPolicy`` and ``restartPolicyRules`` of a container; *path* is the container's."""
    wanted = container.get("restartPolicy")
    rules = container.get("restartPolicyRules") or ()
    if wanted is None:
        if not rules:
            return
        text = "must specify restartPolicy when restart rules are used"
        out.append(FieldError.required(f"{path}.restartPolicy", text))
        if init:
            return
    elif wanted not in _POLICIES:
        out.append(FieldError.not_supported(f"{path}.restartPolicy", wanted, _POLICIES))
    if len(rules) > _MOST_RULES:
        out.append(FieldError.too_many(f"{path}.restartPolicyRules", len(rules), _MOST_RULES))
    for i, rule in enumerate(rules):
        _rule(rule, f"{path}.restartPolicyRules[{i}]", out)


def _rule(rule: Obj, path: str, out: Errors) -> None:
    action, codes = rule.get("action") or "", rule.get("exitCodes")
    if action not in _ACTIONS:
        out.append(FieldError.not_supported(f"{path}.action", action, _ACTIONS))
    if codes is None:
        out.append(FieldError.required(f"{path}.exitCodes", "must be specified"))
        return
    operator, values = codes.get("operator") or "", codes.get("values") or ()
    if operator not in _OPERATORS:
        out.append(FieldError.not_supported(f"{path}.exitCodes.operator", operator, _OPERATORS))
    if len(values) > _MOST_CODES:
        out.append(FieldError.too_many(f"{path}.exitCodes.values", len(values), _MOST_CODES))


def _all_may_restart(spec: Obj) -> bool:
    return any(
        rule.get("action") == "RestartAllContainers"
        for key in ("initContainers", "containers")
        for container in spec.get(key) or ()
        for rule in container.get("restartPolicyRules") or ()
    )


def may_restart(container: Obj, spec: Obj, code: int) -> bool:
    """Whether *container* is started again after it ended with *code*: its rules, its policy, the pod's."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = code in (codes.get("values") or ())
        if listed == (codes.get("operator") == "In") and rule.get("action") in _ACTIONS:
            return True
    wanted = container.get("restartPolicy") or spec.get("restartPolicy")
    return wanted == "Always" or (wanted == "OnFailure" and code != 0)


def transitions(new: Obj, old: Obj, spec: Obj, out: Errors) -> None:
    """A container that is not started again does not come back from the dead; *new* and *old* are statuses."""
    everything = None
    for key, containers in (
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ):
        for i, was in enumerate(old.get(key) or ()):
            ended = (was.get("state") or {}).get("terminated")
            if ended is None:
                continue
            name = was.get("name")
            now = next((one for one in new.get(key) or () if one.get("name") == name), None)
            if now is None or (now.get("state") or {}).get("terminated") is not None:
                continue
            if containers:
                if everything is None:
                    everything = _all_may_restart(spec)
                own = next((one for one in spec.get(containers) or () if one.get("name") == name), None)
                if everything or (own is not None and may_restart(own, spec, ended.get("exitCode") or 0)):
                    continue
            text = "may not be transitioned to non-terminated state"
            out.append(FieldError.forbidden(f"status.{key}[{i}].state", text))
