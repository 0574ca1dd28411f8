"""A whole pod spec, in a Pod or in a template, and templates themselves."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.metadata import validate_annotations
from orca.api.validation import common
from orca.api.validation.pods import containers, resources, scheduling, security, volumes
from orca.api.validation.registry import Errors, Obj, on_create

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_MAX_INT = 2**31 - 1
_HOSTNAME_MAX = 64
_NAMES = (
    ("serviceAccountName", names.dns1123_subdomain),
    ("nodeName", names.dns1123_subdomain),
    ("priorityClassName", names.dns1123_subdomain),
    ("runtimeClassName", names.dns1123_subdomain),
    ("hostname", names.dns1123_label),
    ("subdomain", names.dns1123_label),
)


def _dns(spec: Obj, path: str, out: Errors) -> None:
    policy, config = spec.get("dnsPolicy"), spec.get("dnsConfig")
    common.choice(policy, _DNS, f"{path}.dnsPolicy", out, required=True)
    at = f"{path}.dnsConfig"
    servers = (config or {}).get("nameservers") or []
    if policy == "None" and not servers:
        if config is None:
            out.append(FieldError.required(at, "must provide `dnsConfig` when `dnsPolicy` is None"))
        else:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            out.append(FieldError.required(f"{at}.nameservers", text))
    if config is None:
        return
    if len(servers) > 3:
        out.append(FieldError.invalid(f"{at}.nameservers", servers, "must not have more than 3 nameservers"))
    for i, server in enumerate(servers):
        common.messages(names.ip_address(server), server, f"{at}.nameservers[{i}]", out)
    searches = config.get("searches") or []
    if len(searches) > 32:
        out.append(FieldError.invalid(f"{at}.searches", searches, "must not have more than 32 search paths"))
    for i, search in enumerate(searches):
        name = search[:-1] if search.endswith(".") and search != "." else search
        if name != ".":
            common.messages(names.dns1123_subdomain(name), search, f"{at}.searches[{i}]", out)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            out.append(FieldError.required(f"{at}.options[{i}]", "must not be empty"))


def _rare(spec: Obj, path: str, out: Errors) -> None:
    """Fields that few pods have."""
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        address = alias.get("ip") or ""
        common.messages(names.ip_address(address), address, f"{path}.hostAliases[{i}].ip", out)
        for host in alias.get("hostnames") or ():
            common.messages(names.dns1123_subdomain(host), host, f"{path}.hostAliases[{i}].hostnames", out)
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        common.required(secret, "name", f"{path}.imagePullSecrets[{i}]", out)
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        common.messages(names.qualified_name(kind), kind, f"{path}.readinessGates[{i}].conditionType", out)
    scheduling.gates(spec.get("schedulingGates") or [], f"{path}.schedulingGates", out)
    if spec.get("schedulingGates") and spec.get("nodeName"):
        text = "cannot be set until all schedulingGates have been cleared"
        out.append(FieldError.forbidden(f"{path}.nodeName", text))
    constraints = spec.get("topologySpreadConstraints")
    if constraints:
        scheduling.topology_spread(constraints, f"{path}.topologySpreadConstraints", out)
    if spec.get("affinity"):
        scheduling.affinity(spec["affinity"], f"{path}.affinity", out)
    for key, value in (spec.get("overhead") or {}).items():
        common.non_negative_quantity(value, f"{path}.overhead[{key}]", out)
    if spec.get("resources"):
        resources.requirements(spec["resources"], f"{path}.resources", out, pod_level=True)
    common.choice(spec.get("preemptionPolicy"), ("PreemptLowerPriority", "Never"), f"{path}.preemptionPolicy", out)
    system = spec.get("os")
    if system is not None:
        common.choice(system.get("name"), ("linux", "windows"), f"{path}.os.name", out, required=True)
    seen = set()
    for i, claim in enumerate(spec.get("resourceClaims") or ()):
        at = f"{path}.resourceClaims[{i}]"
        if common.required(claim, "name", at, out):
            common.messages(names.dns1123_label(claim["name"]), claim["name"], f"{at}.name", out)
            if claim["name"] in seen:
                out.append(FieldError.duplicate(f"{at}.name", claim["name"]))
            seen.add(claim["name"])
        sources = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(key)]
        if len(sources) != 1:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            if sources:
                text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            out.append(FieldError.invalid(at, claim, text))


def _hostname_override(spec: Obj, override: str, path: str, out: Errors) -> None:
    at = f"{path}.hostnameOverride"
    common.messages(names.dns1123_subdomain(override), override, at, out)
    if len(override) > _HOSTNAME_MAX:
        out.append(FieldError.too_long(at, override, _HOSTNAME_MAX))
    if spec.get("setHostnameAsFQDN"):
        out.append(FieldError.forbidden(at, "may not be set when setHostnameAsFQDN is true"))
    if spec.get("hostNetwork"):
        out.append(FieldError.forbidden(at, "may not be set when hostNetwork is true"))


def pod_spec(spec: Obj, path: str, out: Errors, *, template: bool) -> None:
    """A pod spec at *path*; a *template* is forgiven what only a Pod is judged for."""
    get = spec.get
    listed = get("volumes")
    known = volumes.volumes(listed, f"{path}.volumes", out) if listed else {}
    pod = containers.PodContext(spec, known, template=template)
    taken = containers.regular(get("containers") or [], f"{path}.containers", out, pod)
    initial, ephemeral = get("initContainers"), get("ephemeralContainers")
    if initial:
        containers.init(initial, f"{path}.initContainers", out, pod, taken)
    if ephemeral:
        containers.ephemeral(ephemeral, f"{path}.ephemeralContainers", out, pod, taken)
    common.choice(get("restartPolicy"), _RESTART, f"{path}.restartPolicy", out, required=True)
    _dns(spec, path, out)
    if get("nodeSelector"):
        common.labels(get("nodeSelector"), f"{path}.nodeSelector", out)
    context = get("securityContext")
    if context or get("shareProcessNamespace"):
        security.pod_context(spec, context or {}, path, out)
    for key, rule in _NAMES:
        value = get(key)
        if value:
            common.messages(rule(value), value, f"{path}.{key}", out)
    override = get("hostnameOverride")
    if override is not None:
        _hostname_override(spec, override, path, out)
    deadline = get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT:
        text = names.in_range(1, _MAX_INT)
        out.append(FieldError.invalid(f"{path}.activeDeadlineSeconds", deadline, text))
    tolerations = get("tolerations")
    if tolerations:
        scheduling.tolerations(tolerations, f"{path}.tolerations", out)
    _rare(spec, path, out)


def template(obj: Obj | None, path: str, out: Errors, *, restart: tuple[str, ...] = ("Always",)) -> None:
    """A PodTemplateSpec whose restartPolicy is one of *restart*; with an empty one the caller judges that."""
    if obj is None:
        out.append(FieldError.required(path))
        return
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    common.labels(meta.get("labels"), f"{path}.labels", out)
    if meta.get("annotations"):
        out += validate_annotations(meta["annotations"], f"{path}.annotations")
    pod_spec(spec, f"{path}.spec", out, template=True)
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        out.append(FieldError.forbidden(f"{path}.spec.ephemeralContainers", text))
    policy = spec.get("restartPolicy")
    if restart and policy in _RESTART and policy not in restart:
        out.append(FieldError.not_supported(f"{path}.spec.restartPolicy", policy, restart))


@on_create("", "Pod")
def pod(obj: Obj) -> Errors:
    """A new Pod."""
    out: Errors = []
    spec = obj.get("spec") or {}
    pod_spec(spec, "spec", out, template=False)
    if spec.get("ephemeralContainers"):
        out.append(FieldError.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    return out


@on_create("", "PodTemplate")
def pod_template(obj: Obj) -> Errors:
    """A PodTemplate object."""
    out: Errors = []
    template(obj.get("template"), "template", out, restart=_RESTART)
    return out
