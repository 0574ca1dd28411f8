"""A whole pod spec, in a Pod or in a template, and templates themselves.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePodSpec, ValidatePodTemplateSpec.
"""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.metadata import validate_annotations
from orca.api.templates import Faultless, encoding
from orca.api.validation import common
from orca.api.validation.pods import (
    containers,
    marks,
    resources,
    scheduling,
    security,
    volumes,
    windows,
)
from orca.api.validation.registry import Errors, Obj, on_create

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_MAX_INT = 2**31 - 1
_HOSTNAME_MAX = 64
_SEARCHES_MAX, _SEARCH_CHARACTERS_MAX = 32, 2048
_faultless = Faultless()


def _dns(spec: Obj, path: str, out: Errors) -> None:
    config = spec.get("dnsConfig")
    at = f"{path}.dnsConfig"
    servers = (config or {}).get("nameservers") or []
    if spec.get("dnsPolicy") == "None" and not servers:
        if config is None:
            out.append(FieldError.required(at, "must provide `dnsConfig` when `dnsPolicy` is None"))
        else:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            out.append(FieldError.required(f"{at}.nameservers", text))
        return
    if config is None:
        return
    if len(servers) > 3:
        out.append(FieldError.invalid(f"{at}.nameservers", servers, "must not have more than 3 nameservers"))
    for i, server in enumerate(servers):
        common.messages(names.ip_address(server), server, f"{at}.nameservers[{i}]", out)
    searches = config.get("searches") or []
    if len(searches) > _SEARCHES_MAX:
        text = f"must not have more than {_SEARCHES_MAX} search paths"
        out.append(FieldError.invalid(f"{at}.searches", searches, text))
    if len(" ".join(searches).encode()) > _SEARCH_CHARACTERS_MAX:
        text = f"must not have more than {_SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        out.append(FieldError.invalid(f"{at}.searches", searches, text))
    for i, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            common.messages(names.dns1123_subdomain_with_underscore(name), name, f"{at}.searches[{i}]", out)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            out.append(FieldError.required(f"{at}.options[{i}]", "must not be empty"))


def _host_network(spec: Obj, path: str, out: Errors, *, template: bool) -> None:
    """On the host's network a port is the host's; a template may leave that to be said when a pod is made."""
    for i, container in enumerate(spec.get("containers") or ()):
        for j, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort") or 0
            if host != (port.get("containerPort") or 0) and (host or not template):
                text = "must match `containerPort` when `hostNetwork` is true"
                out.append(FieldError.invalid(f"{path}.containers[{i}].ports[{j}].hostPort", host, text))


def _hostname_override(spec: Obj, override: str, path: str, out: Errors) -> None:
    at = f"{path}.hostnameOverride"
    if spec.get("setHostnameAsFQDN"):
        out.append(FieldError.forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
    if spec.get("hostNetwork"):
        out.append(FieldError.forbidden(at, "may not be specified when hostNetwork is true"))
    if len(override.encode()) > _HOSTNAME_MAX:
        out.append(FieldError.too_long(at, "", _HOSTNAME_MAX))
    common.messages(names.dns1123_subdomain(override), override, at, out)


def _claims(items: list[Obj], path: str, out: Errors, *, mirror: bool) -> None:
    seen = set()
    for i, claim in enumerate(items):
        if mirror:
            out.append(FieldError.forbidden("[]", "static pods do not support resource claims"))
            continue
        at = f"{path}[{i}]"
        name = claim.get("name")
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        elif name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        else:
            common.messages(names.dns1123_label(name), name, f"{at}.name", out)
            seen.add(name)
        sources = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(key) is not None]
        if len(sources) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            out.append(FieldError.invalid(at, claim, text))
        elif not sources:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            out.append(FieldError.invalid(at, claim, text))
        for key in sources:
            common.messages(names.dns1123_subdomain(claim[key]), claim[key], f"{at}.{key}", out)


def _before_names(spec: Obj, path: str, out: Errors, *, template: bool) -> None:
    get = spec.get
    if get("resources") is not None:
        resources.pod_resources(spec, path, out)
    if get("hostNetwork"):
        _host_network(spec, path, out, template=template)
    common.choice(get("restartPolicy"), _RESTART, f"{path}.restartPolicy", out, required=True)
    common.choice(get("dnsPolicy"), _DNS, f"{path}.dnsPolicy", out, required=True)
    if get("nodeSelector"):
        common.labels(get("nodeSelector"), f"{path}.nodeSelector", out)
    context = get("securityContext")
    if context or get("shareProcessNamespace"):
        security.pod_context(spec, context or {}, path, out)
    if get("affinity"):
        scheduling.affinity(spec["affinity"], f"{path}.affinity", out)
    _dns(spec, path, out)
    for i, gate in enumerate(get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        common.messages(names.qualified_name(kind), kind, f"{path}.readinessGates[{i}].conditionType", out)
    gates, constraints = get("schedulingGates"), get("topologySpreadConstraints")
    if gates:
        scheduling.gates(gates, f"{path}.schedulingGates", out)
    if constraints:
        scheduling.topology_spread(constraints, f"{path}.topologySpreadConstraints", out)
    if windows.mentioned(spec):
        windows.host_process(spec, path, out)
    if get("hostUsers") is False:
        security.host_users(spec, path, out)
    override = get("hostnameOverride")
    if override is not None:
        _hostname_override(spec, override, path, out)


def _named(spec: Obj, path: str, out: Errors) -> None:
    """Names the spec refers to, and what else stands alone."""
    get = spec.get
    for key in ("serviceAccountName", "nodeName"):
        common.subdomain(get(key), f"{path}.{key}", out)
    deadline = get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT:
        out.append(FieldError.invalid(f"{path}.activeDeadlineSeconds", deadline, names.in_range(1, _MAX_INT)))
    for key in ("hostname", "subdomain"):
        value = get(key)
        if value:
            common.messages(names.dns1123_label(value), value, f"{path}.{key}", out)
    tolerations = get("tolerations")
    if tolerations:
        scheduling.tolerations(tolerations, f"{path}.tolerations", out)
    for i, alias in enumerate(get("hostAliases") or ()):
        at, address = f"{path}.hostAliases[{i}]", alias.get("ip") or ""
        common.messages(names.ip_address(address), address, f"{at}.ip", out)
        for j, host in enumerate(alias.get("hostnames") or ()):
            common.messages(names.dns1123_subdomain(host), host, f"{at}.hostnames[{j}]", out)
    common.subdomain(get("priorityClassName"), f"{path}.priorityClassName", out)
    runtime = get("runtimeClassName")
    if runtime is not None:
        common.messages(names.dns1123_subdomain(runtime), runtime, f"{path}.runtimeClassName", out)
    preemption = get("preemptionPolicy")
    if preemption is not None:
        common.choice(preemption, _PREEMPTION, f"{path}.preemptionPolicy", out, required=True)
    overhead = get("overhead")
    if overhead:
        resources.requirements({"limits": overhead}, f"{path}.overhead", out)
    system = get("os")
    if system is not None:
        _system(spec, system.get("name"), path, out)


def _system(spec: Obj, name: str | None, path: str, out: Errors) -> None:
    if not name:
        out.append(FieldError.required(f"{path}.os.name"))
    elif name not in ("linux", "windows"):
        out.append(FieldError.not_supported(f"{path}.os", name, ("linux", "windows")))
    else:
        security.pod_system(spec, path, out, system=name)


def pod_spec(spec: Obj, path: str, out: Errors, *, template: bool, pod_name: str = "", mirror: bool = False) -> None:
    """A pod spec at *path*; a *template* is forgiven what only a Pod is judged for.

    *pod_name* and *mirror* are of a real Pod: its name, and whether it mirrors a static one.
    """
    get = spec.get
    if get("terminationGracePeriodSeconds") is None:
        out.append(FieldError.required(f"{path}.terminationGracePeriodSeconds"))
    listed, claims = get("volumes"), get("resourceClaims")
    known: dict[str, str] = {}
    if listed:
        known = volumes.volumes(listed, f"{path}.volumes", out, pod_name=pod_name, is_pod=not template)
    if claims:
        _claims(claims, f"{path}.resourceClaims", out, mirror=mirror)
    pod = containers.PodContext(spec, known, template=template)
    taken = containers.regular(get("containers") or [], f"{path}.containers", out, pod)
    initial, ephemeral = get("initContainers"), get("ephemeralContainers")
    if initial:
        containers.init(initial, f"{path}.initContainers", out, pod, taken)
    if ephemeral:
        containers.ephemeral(ephemeral, f"{path}.ephemeralContainers", out, pod, taken)
    _before_names(spec, path, out, template=template)
    _named(spec, path, out)


def template(obj: Obj | None, path: str, out: Errors, *, restart: tuple[str, ...] = ("Always",)) -> None:
    """A PodTemplateSpec whose restartPolicy is one of *restart*; with an empty one the caller judges that."""
    if obj is None:
        out.append(FieldError.required(path))
        return
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    common.labels(meta.get("labels"), f"{path}.labels", out)
    values = meta.get("annotations")
    if values:
        out += validate_annotations(values, f"{path}.annotations")
        marks.specific(values, spec, f"{path}.annotations", out)
    pod_spec(spec, f"{path}.spec", out, template=True)
    marks.agree(values, spec, f"{path}.spec", out)
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        out.append(FieldError.forbidden(f"{path}.spec.ephemeralContainers", text))
    policy = spec.get("restartPolicy")
    if restart and policy not in restart:
        out.append(FieldError.not_supported(f"{path}.spec.restartPolicy", policy, restart))


def whole(obj: Obj, out: Errors) -> None:
    """Annotations and spec of a Pod, new or changed."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    values = meta.get("annotations")
    marks.specific(values, spec, "metadata.annotations", out)
    mirror = bool(values) and marks.MIRROR in values
    name = meta.get("name") or ""
    encoded = encoding(spec)
    # A pod's name matters to volumes that become claims of its own.
    key = (encoded, mirror, name if encoded is not None and b'"ephemeral"' in encoded else "")
    if key in _faultless:
        return
    found: Errors = []
    pod_spec(spec, "spec", found, template=False, pod_name=name, mirror=mirror)
    if not spec.get("serviceAccountName"):
        _no_token(spec, found)
    if not found and encoded is not None:
        _faultless.add(key)
    out += found


def _no_token(spec: Obj, out: Errors) -> None:
    for i, volume in enumerate(spec.get("volumes") or ()):
        for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                text = "must not be specified when serviceAccountName is not set"
                at = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                out.append(FieldError.forbidden(at, text))


@on_create("", "Pod")
def pod(obj: Obj) -> Errors:
    """A new Pod."""
    out: Errors = []
    spec = obj.get("spec") or {}
    whole(obj, out)
    if spec.get("ephemeralContainers"):
        out.append(FieldError.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("schedulingGates") and spec.get("nodeName"):
        text = "cannot be set until all schedulingGates have been cleared"
        out.append(FieldError.forbidden("spec.nodeName", text))
    marks.agree(obj["metadata"].get("annotations"), spec, "spec", out)
    return out


@on_create("", "PodTemplate")
def pod_template(obj: Obj) -> Errors:
    """A PodTemplate object."""
    out: Errors = []
    template(obj.get("template"), "template", out, restart=())
    return out
