"""Containers of every sort: regular, init (also restartable ones) and ephemeral.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` validateContainers and its like.
"""

from __future__ import annotations

from collections.abc import Set

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import env, probes, resources, restarts, security, volumes
from orca.api.validation.registry import Errors, Obj

_PULL = ("Always", "IfNotPresent", "Never")
_MESSAGES = ("File", "FallbackToLogsOnError")
_NOT_FOR_INIT = "may not be set for init containers without restartPolicy=Always"
_NOT_FOR_EPHEMERAL = "cannot be set for an Ephemeral Container"
_PROBES = (("livenessProbe", "liveness"), ("readinessProbe", "readiness"), ("startupProbe", "startup"))
_RESIZABLE = ("cpu", "memory")
_RESIZES = ("NotRequired", "RestartContainer")
_EPHEMERAL_FORBIDDEN = (
    "ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules", "livenessProbe", "readinessProbe",
    "startupProbe", "lifecycle",
)  # fmt: skip
_POINTERS = frozenset({"restartPolicy", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"})


class PodContext:
    """What of the pod its containers are judged by."""

    __slots__ = ("claims", "grace", "host_users", "restart", "system", "template", "volumes")

    def __init__(self, spec: Obj, known: dict[str, str], *, template: bool) -> None:
        self.volumes = known
        self.grace: int | None = spec.get("terminationGracePeriodSeconds")
        self.host_users = spec.get("hostUsers") is not False
        self.restart: str | None = spec.get("restartPolicy")
        system = spec.get("os")
        self.system: str | None = None if system is None else system.get("name") or ""
        self.template = template
        listed = spec.get("resourceClaims")
        self.claims: Set[str] = {one["name"] for one in listed if one.get("name")} if listed else frozenset()


def _ports(items: list[Obj], path: str, out: Errors) -> None:
    seen = set()
    for i, port in enumerate(items):
        at = f"{path}[{i}]"
        name = port.get("name")
        if name:
            wrong = names.port_name(name)
            if wrong:
                common.messages(wrong, name, f"{at}.name", out)
            elif name in seen:
                out.append(FieldError.duplicate(f"{at}.name", name))
            else:
                seen.add(name)
        number = port.get("containerPort")
        if not number:
            out.append(FieldError.required(f"{at}.containerPort"))
        elif not 1 <= number <= 65535:
            out.append(FieldError.invalid(f"{at}.containerPort", number, names.in_range(1, 65535)))
        host = port.get("hostPort")
        if host and not 1 <= host <= 65535:
            out.append(FieldError.invalid(f"{at}.hostPort", host, names.in_range(1, 65535)))
        common.choice(port.get("protocol"), common.PROTOCOLS, f"{at}.protocol", out, required=True)


def _resize(container: Obj, path: str, out: Errors, pod: PodContext) -> None:
    seen = set()
    at = f"{path}.resizePolicy"
    for i, policy in enumerate(container.get("resizePolicy") or ()):
        name, wanted = policy.get("resourceName"), policy.get("restartPolicy")
        if name in seen:
            out.append(FieldError.duplicate(f"{at}[{i}]", name))
        seen.add(name)
        common.choice(name, _RESIZABLE, at, out, required=True)
        common.choice(wanted, _RESIZES, at, out, required=True)
        if pod.restart == "Never" and wanted != "NotRequired":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            out.append(FieldError.invalid(at, wanted or "", text))


def _common(container: Obj, path: str, out: Errors, pod: PodContext) -> None:
    get = container.get
    name, image = get("name"), get("image")
    if not name:
        out.append(FieldError.required(f"{path}.name"))
    else:
        common.messages(names.dns1123_label(name), name, f"{path}.name", out)
    if not image:
        out.append(FieldError.required(f"{path}.image"))
    elif not pod.template and image != image.strip():
        out.append(FieldError.invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    common.choice(get("terminationMessagePolicy"), _MESSAGES, f"{path}.terminationMessagePolicy", out, required=True)
    ports = get("ports")
    if ports:
        _ports(ports, f"{path}.ports", out)
    variables = get("env")
    if variables:
        env.variables(variables, f"{path}.env", out, pod.volumes)
    sources = get("envFrom")
    if sources:
        env.sources(sources, f"{path}.envFrom", out)
    if get("volumeMounts") or get("volumeDevices"):
        volumes.mounts(container, pod.volumes, path, out)
        if not pod.host_users and get("volumeDevices"):
            out.append(FieldError.forbidden(f"{path}.volumeDevices", "when `hostUsers` is false"))
    common.choice(get("imagePullPolicy"), _PULL, f"{path}.imagePullPolicy", out, required=True)
    wanted = get("resources")
    if wanted:
        resources.requirements(wanted, f"{path}.resources", out, claims=pod.claims)
    if get("resizePolicy"):
        _resize(container, path, out, pod)
    context = get("securityContext")
    if context:
        security.container_context(context, f"{path}.securityContext", out, host_users=pod.host_users)
        if pod.system:
            security.container_system(context, f"{path}.securityContext", out, system=pod.system)


def _probes(container: Obj, path: str, out: Errors, pod: PodContext) -> None:
    hooks = container.get("lifecycle")
    if hooks is not None:
        probes.lifecycle(hooks, f"{path}.lifecycle", out, pod.grace, pod.system)
    for key, kind in _PROBES:
        probe = container.get(key)
        if probe is not None:
            probes.probe(probe, f"{path}.{key}", out, kind=kind)


def regular(items: list[Obj], path: str, out: Errors, pod: PodContext) -> set[str]:
    """``containers``; returns their names."""
    if not items:
        out.append(FieldError.required(path))
    seen: set[str] = set()
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(container, at, out, pod)
        name = container.get("name") or ""
        if name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        _probes(container, at, out, pod)
        restarts.policy(container, at, out, init=False)
    _host_ports(items, path, out)
    return seen


def init(items: list[Obj], path: str, out: Errors, pod: PodContext, taken: set[str]) -> None:
    """``initContainers``; *taken* are the names of the regular ones, to which theirs are added."""
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(container, at, out, pod)
        restarts.policy(container, at, out, init=True)
        name = container.get("name") or ""
        if name and name in taken:
            out.append(FieldError.duplicate(f"{at}.name", name))
        taken.add(name)
        # They run one after the other, so only within one may ports collide.
        _host_ports([container], path, out)
        if container.get("restartPolicy") == "Always":
            _probes(container, at, out, pod)
            continue
        for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(key) is not None:
                out.append(FieldError.forbidden(f"{at}.{key}", _NOT_FOR_INIT))
        for j, policy in enumerate(container.get("resizePolicy") or ()):
            if policy.get("restartPolicy") == "RestartContainer":
                text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                where = f"{at}.resizePolicy[{j}].restartPolicy"
                out.append(FieldError.invalid(where, "RestartContainer", text))


def ephemeral(items: list[Obj], path: str, out: Errors, pod: PodContext, taken: set[str]) -> None:
    """``ephemeralContainers``: no ports, probes, hooks or resources, and a target that exists."""
    seen: set[str] = set()
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(container, at, out, pod)
        name = container.get("name") or ""
        if name in taken or name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in taken:
            out.append(FieldError.not_found(f"{at}.targetContainerName", target))
        for key in _EPHEMERAL_FORBIDDEN:
            value = container.get(key)
            if value if key not in _POINTERS else value is not None:
                out.append(FieldError.forbidden(f"{at}.{key}", _NOT_FOR_EPHEMERAL))
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    out.append(FieldError.forbidden(f"{at}.volumeMounts[{j}].{key}", _NOT_FOR_EPHEMERAL))


def _host_ports(items: list[Obj], path: str, out: Errors) -> None:
    """No two containers ask for one port of the host."""
    seen = set()
    for i, container in enumerate(items):
        for j, port in enumerate(container.get("ports") or ()):
            number = port.get("hostPort")
            if number:
                key = f"{port.get('protocol')}/{port.get('hostIP') or ''}/{number}"
                if key in seen:
                    out.append(FieldError.duplicate(f"{path}[{i}].ports[{j}].hostPort", key))
                seen.add(key)
