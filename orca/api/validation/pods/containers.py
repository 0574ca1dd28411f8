"""Containers of every sort: regular, init (also restartable ones) and ephemeral."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import env, probes, resources, security, volumes
from orca.api.validation.registry import Errors, Obj

_PULL = ("Always", "IfNotPresent", "Never")
_MESSAGE_TEXT = "must be 'File' or 'FallbackToLogsOnError'"
_NOT_FOR_INIT = "may not be set for init containers without restartPolicy=Always"
_PROBES = (("livenessProbe", "liveness"), ("readinessProbe", "readiness"), ("startupProbe", "startup"))
_RULE_ACTIONS = ("Restart", "RestartAllContainers")
_EPHEMERAL_FORBIDDEN = (
    "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy",
)  # fmt: skip


class PodContext:
    """What of the pod its containers are judged by."""

    __slots__ = ("grace", "host_network", "host_users", "template", "volumes")

    def __init__(self, spec: Obj, known: dict[str, str], *, template: bool) -> None:
        self.volumes = known
        self.grace: int | None = spec.get("terminationGracePeriodSeconds")
        self.host_network = bool(spec.get("hostNetwork"))
        self.host_users = spec.get("hostUsers") is not False
        self.template = template


def _ports(items: list[Obj], path: str, out: Errors, pod: PodContext) -> None:
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
            seen.add(name)
        number = port.get("containerPort")
        if not number:
            out.append(FieldError.required(f"{at}.containerPort"))
        elif not 1 <= number <= 65535:
            out.append(FieldError.invalid(f"{at}.containerPort", number, names.in_range(1, 65535)))
        host = port.get("hostPort")
        if host:
            if not 1 <= host <= 65535:
                out.append(FieldError.invalid(f"{at}.hostPort", host, names.in_range(1, 65535)))
            if pod.host_network and host != number:
                text = "must match `hostPort` when `hostNetwork` is true"
                out.append(FieldError.invalid(f"{at}.containerPort", number, text))
        address = port.get("hostIP")
        if address:
            common.messages(names.ip_address(address), address, f"{at}.hostIP", out)
        common.choice(port.get("protocol"), common.PROTOCOLS, f"{at}.protocol", out, required=True)


def _resize(container: Obj, path: str, out: Errors) -> None:
    seen = set()
    for i, policy in enumerate(container.get("resizePolicy") or ()):
        at = f"{path}.resizePolicy[{i}]"
        name = policy.get("resourceName")
        common.choice(name, ("cpu", "memory"), f"{at}.resourceName", out, required=True)
        if name in seen:
            out.append(FieldError.duplicate(at, name))
        seen.add(name)
        wanted = policy.get("restartPolicy")
        common.choice(wanted, ("NotRequired", "RestartContainer"), f"{at}.restartPolicy", out, required=True)


def _restart(container: Obj, path: str, out: Errors, *, init: bool) -> None:
    policy = container.get("restartPolicy")
    if policy is None:
        if container.get("restartPolicyRules"):
            text = "must specify restartPolicy when restart rules are used"
            out.append(FieldError.required(f"{path}.restartPolicy", text))
        return
    common.choice(policy, ("Always", "OnFailure", "Never"), f"{path}.restartPolicy", out)
    rules = container.get("restartPolicyRules") or ()
    if rules and init and policy == "Always":
        text = "restartPolicyRules are not allowed for init containers with restart policy Always"
        out.append(FieldError.forbidden(f"{path}.restartPolicyRules", text))
    for i, rule in enumerate(rules):
        at = f"{path}.restartPolicyRules[{i}]"
        common.choice(rule.get("action"), _RULE_ACTIONS, f"{at}.action", out, required=True)
        codes = rule.get("exitCodes")
        if codes is None:
            out.append(FieldError.required(f"{at}.exitCodes", "must be specified"))
        else:
            common.choice(codes.get("operator"), ("In", "NotIn"), f"{at}.exitCodes.operator", out, required=True)


def _common(container: Obj, path: str, out: Errors, pod: PodContext, *, init: bool) -> None:
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
    message = get("terminationMessagePolicy")
    if not message:
        out.append(FieldError.required(f"{path}.terminationMessagePolicy", _MESSAGE_TEXT))
    elif message not in ("File", "FallbackToLogsOnError"):
        out.append(FieldError.invalid(f"{path}.terminationMessagePolicy", message, _MESSAGE_TEXT))
    ports = get("ports")
    if ports:
        _ports(ports, f"{path}.ports", out, pod)
    variables = get("env")
    if variables:
        env.variables(variables, f"{path}.env", out)
    sources = get("envFrom")
    if sources:
        env.sources(sources, f"{path}.envFrom", out)
    if get("volumeMounts") or get("volumeDevices"):
        volumes.mounts(container, pod.volumes, path, out)
    common.choice(get("imagePullPolicy"), _PULL, f"{path}.imagePullPolicy", out, required=True)
    wanted = get("resources")
    if wanted:
        resources.requirements(wanted, f"{path}.resources", out)
    if get("resizePolicy"):
        _resize(container, path, out)
    _restart(container, path, out, init=init)
    context = get("securityContext")
    if context:
        security.container_context(context, f"{path}.securityContext", out, host_users=pod.host_users)


def _probes(container: Obj, path: str, out: Errors, pod: PodContext) -> None:
    hooks = container.get("lifecycle")
    if hooks:
        probes.lifecycle(hooks, f"{path}.lifecycle", out, pod.grace)
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
        _common(container, at, out, pod, init=False)
        name = container.get("name") or ""
        if name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        _probes(container, at, out, pod)
    _host_ports(items, path, out)
    return seen


def init(items: list[Obj], path: str, out: Errors, pod: PodContext, taken: set[str]) -> None:
    """``initContainers``; *taken* are the names of the regular ones, to which theirs are added."""
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(container, at, out, pod, init=True)
        name = container.get("name") or ""
        if name and name in taken:
            out.append(FieldError.duplicate(f"{at}.name", name))
        taken.add(name)
        if container.get("restartPolicy") == "Always":
            _probes(container, at, out, pod)
        else:
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(key) is not None:
                    out.append(FieldError.forbidden(f"{at}.{key}", _NOT_FOR_INIT))
    _host_ports(items, path, out)


def ephemeral(items: list[Obj], path: str, out: Errors, pod: PodContext, taken: set[str]) -> None:
    """``ephemeralContainers``: no ports, probes, hooks or resources, and a target that exists."""
    seen: set[str] = set()
    for i, container in enumerate(items):
        at = f"{path}[{i}]"
        _common(container, at, out, pod, init=False)
        name = container.get("name") or ""
        if name in taken or name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in taken:
            out.append(FieldError.not_found(f"{at}.targetContainerName", target))
        for key in _EPHEMERAL_FORBIDDEN:
            if container.get(key):
                out.append(FieldError.forbidden(f"{at}.{key}", "cannot be set for an Ephemeral Container"))


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
