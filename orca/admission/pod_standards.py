"""The Pod Security Standards as checks on a pod: metadata and spec in, what they forbid out. Pure.

Reference: the published standards and k8s.io/pod-security-admission ``policy`` (names of checks, texts), as of v1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orca.api.objects import Obj

Finding = tuple[str, str]
"""(reason, detail)"""

BASELINE_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
SELINUX_TYPES = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    )
)
RESTRICTED_VOLUMES = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
_APPARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"


def check(level: str, metadata: Obj, spec: Obj) -> list[Finding]:
    """What ``level`` (privileged, baseline or restricted) forbids in a pod, in upstream's order."""
    if level == "privileged":
        return []
    rules = BASELINE if level == "baseline" else RESTRICTED
    return [(reason, detail) for reason, rule in rules for detail in [rule(metadata, spec)] if detail]


def containers(spec: Obj) -> Iterator[Obj]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def _context(one: Obj) -> Obj:
    return one.get("securityContext") or {}


def _quoted(values: Iterable[Any]) -> str:
    return ", ".join(f'"{value}"' for value in values)


def _those(names: list[str], one: str = "container") -> str:
    return f"{one}{'s' if len(names) != 1 else ''} {_quoted(names)}"


def _names(spec: Obj, bad: Callable[[Obj], bool]) -> list[str]:
    return [one["name"] for one in containers(spec) if bad(one)]


def _setters(spec: Obj, bad: Callable[[Obj], bool]) -> str:
    """``pod``, ``container "a"`` or both: whose security context is bad; "" when none is."""
    found = ["pod"] if bad(_context(spec)) else []
    names = _names(spec, lambda one: bad(_context(one)))
    return " and ".join([*found, *([_those(names)] if names else [])])


# --- baseline


def _apparmor(metadata: Obj, spec: Obj) -> str:
    def kind(context: Obj) -> str:
        return (context.get("appArmorProfile") or {}).get("type") or "RuntimeDefault"

    allowed = ("RuntimeDefault", "Localhost")
    who = _setters(spec, lambda context: kind(context) not in allowed)
    noted = {
        value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APPARMOR_PREFIX) and value not in ("", "runtime/default") and value[:10] != "localhost/"
    }
    if not who and not noted:
        return ""
    kinds = {kind(_context(one)) for one in (spec, *containers(spec))} - set(allowed)
    who = " and ".join(part for part in (who, "annotation" if noted else "") if part)
    return f"{who} must not set AppArmor profile type to {_quoted(sorted(kinds | noted))}"


def _added(one: Obj, allowed: frozenset[str]) -> set[str]:
    return set((_context(one).get("capabilities") or {}).get("add") or ()) - allowed


def _capabilities(spec: Obj, allowed: frozenset[str]) -> str:
    names = _names(spec, lambda one: bool(_added(one, allowed)))
    if not names:
        return ""
    added = set().union(*(_added(one, allowed) for one in containers(spec)))
    return f"{_those(names)} must not include {_quoted(sorted(added))} in securityContext.capabilities.add"


def _host_namespaces(_: Obj, spec: Obj) -> str:
    return ", ".join(f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field))


def _host_path(_: Obj, spec: Obj) -> str:
    names = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return _those(names, "volume") if names else ""


def _host_ports(_: Obj, spec: Obj) -> str:
    def used(one: Obj) -> set[int]:
        return {port["hostPort"] for port in one.get("ports") or () if port.get("hostPort")}

    names = _names(spec, lambda one: bool(used(one)))
    ports = sorted(set().union(*map(used, containers(spec))))
    verb = "uses" if len(names) == 1 else "use"
    noun = "hostPort" if len(ports) == 1 else "hostPorts"
    return f"{_those(names)} {verb} {noun} {', '.join(map(str, ports))}" if names else ""


def _host_probes(_: Obj, spec: Obj) -> str:
    def hosts(one: Obj) -> set[str]:
        hooks = one.get("lifecycle") or {}
        handlers = [one.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        handlers += [hooks.get("postStart"), hooks.get("preStop")]
        ways = [(handler or {}).get(way) or {} for handler in handlers for way in ("httpGet", "tcpSocket")]
        return {way["host"] for way in ways if way.get("host")}

    names = _names(spec, lambda one: bool(hosts(one)))
    found = sorted(set().union(*map(hosts, containers(spec))))
    if not names:
        return ""
    verb, noun = "uses" if len(names) == 1 else "use", "host" if len(found) == 1 else "hosts"
    return f"{_those(names)} {verb} probe or lifecycle {noun} {_quoted(found)}"


def _privileged(_: Obj, spec: Obj) -> str:
    names = _names(spec, lambda one: bool(_context(one).get("privileged")))
    return f"{_those(names)} must not set securityContext.privileged=true" if names else ""


def _proc_mount(_: Obj, spec: Obj) -> str:
    def kind(one: Obj) -> str:
        return _context(one).get("procMount") or "Default"

    names = _names(spec, lambda one: kind(one) != "Default")
    kinds = sorted({kind(one) for one in containers(spec)} - {"Default"})
    return f"{_those(names)} must not set securityContext.procMount to {_quoted(kinds)}" if names else ""


def _selinux(_: Obj, spec: Obj) -> str:
    def bad(context: Obj) -> bool:
        options = context.get("seLinuxOptions") or {}
        return bool(options.get("type", "") not in SELINUX_TYPES or options.get("user") or options.get("role"))

    who = _setters(spec, bad)
    if not who:
        return ""
    all_options = [_context(one).get("seLinuxOptions") or {} for one in (spec, *containers(spec))]
    kinds = sorted({options.get("type", "") for options in all_options} - SELINUX_TYPES)
    told = [f"type{'s' if len(kinds) != 1 else ''} {_quoted(kinds)}"] if kinds else []
    told += [f"{part} may not be set" for part in ("user", "role") if any(one.get(part) for one in all_options)]
    return f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(told)}"


def _seccomp_kind(context: Obj) -> str:
    return (context.get("seccompProfile") or {}).get("type") or ""


def _seccomp(_: Obj, spec: Obj) -> str:
    who = _setters(spec, lambda context: _seccomp_kind(context) not in ("", "RuntimeDefault", "Localhost"))
    return f'{who} must not set securityContext.seccompProfile.type to "Unconfined"' if who else ""


def _sysctls(_: Obj, spec: Obj) -> str:
    named = [one.get("name", "") for one in _context(spec).get("sysctls") or ()]
    return ", ".join(one for one in named if one not in SYSCTLS)


def _host_process(_: Obj, spec: Obj) -> str:
    who = _setters(spec, lambda context: bool((context.get("windowsOptions") or {}).get("hostProcess")))
    return f"{who} must not set securityContext.windowsOptions.hostProcess=true" if who else ""


# --- restricted


def _volumes(_: Obj, spec: Obj) -> str:
    bad = [
        (volume["name"], kind)
        for volume in spec.get("volumes") or ()
        for kind in [next((key for key, value in volume.items() if key != "name" and value is not None), "unknown")]
        if kind not in RESTRICTED_VOLUMES
    ]
    kinds = sorted({kind for _, kind in bad})
    verb, noun = "uses" if len(bad) == 1 else "use", "type" if len(kinds) == 1 else "types"
    names = [one for one, _ in bad]
    return f"{_those(names, 'volume')} {verb} restricted volume {noun} {_quoted(kinds)}" if bad else ""


def _windows(spec: Obj) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _escalation(_: Obj, spec: Obj) -> str:
    names = _names(spec, lambda one: _context(one).get("allowPrivilegeEscalation") is not False)
    if not names or _windows(spec):
        return ""
    return f"{_those(names)} must set securityContext.allowPrivilegeEscalation=false"


def _dropped(_: Obj, spec: Obj) -> str:
    if _windows(spec):
        return ""
    names = _names(spec, lambda one: "ALL" not in ((_context(one).get("capabilities") or {}).get("drop") or ()))
    told = [f'{_those(names)} must set securityContext.capabilities.drop=["ALL"]'] if names else []
    added = _capabilities(spec, frozenset(("NET_BIND_SERVICE",)))
    return "; ".join([*told, *([added] if added else [])])


def _non_root(_: Obj, spec: Obj) -> str:
    who = _setters(spec, lambda context: context.get("runAsNonRoot") is False)
    whole = _context(spec).get("runAsNonRoot")
    names = _names(spec, lambda one: _context(one).get("runAsNonRoot") is None)
    overridden = not names and whole is False
    if who and not (overridden and who == "pod"):
        return f"{who} must not set securityContext.runAsNonRoot=false"
    if whole or not names:
        return ""
    return f"pod or {_those(names)} must set securityContext.runAsNonRoot=true"


def _user(_: Obj, spec: Obj) -> str:
    who = _setters(spec, lambda context: context.get("runAsUser") == 0)
    return f"{who} must not set runAsUser=0" if who else ""


def _seccomp_set(metadata: Obj, spec: Obj) -> str:
    if _windows(spec):
        return ""
    bad = _seccomp(metadata, spec)
    if bad or _seccomp_kind(_context(spec)):
        return bad
    names = _names(spec, lambda one: not _seccomp_kind(_context(one)))
    if not names:
        return ""
    return f'pod or {_those(names)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'


Rules = tuple[tuple[str, Callable[[Obj, Obj], str]], ...]
_COMMON_FIRST: Rules = (("forbidden AppArmor profile", _apparmor),)
_COMMON: Rules = (
    ("hostPort", _host_ports),
    ("probe or lifecycle host", _host_probes),
    ("privileged", _privileged),
    ("procMount", _proc_mount),
    ("seLinuxOptions", _selinux),
)
_COMMON_LAST: Rules = (("forbidden sysctls", _sysctls), ("hostProcess", _host_process))
BASELINE: Rules = (
    *_COMMON_FIRST,
    ("non-default capabilities", lambda _, spec: _capabilities(spec, BASELINE_CAPABILITIES)),
    ("host namespaces", _host_namespaces),
    ("hostPath volumes", _host_path),
    *_COMMON,
    ("seccompProfile", _seccomp),
    *_COMMON_LAST,
)
RESTRICTED: Rules = (
    *_COMMON_FIRST,
    ("host namespaces", _host_namespaces),
    *_COMMON,
    *_COMMON_LAST,
    ("allowPrivilegeEscalation != false", _escalation),
    ("unrestricted capabilities", _dropped),
    ("restricted volume types", _volumes),
    ("runAsNonRoot != true", _non_root),
    ("runAsUser=0", _user),
    ("seccompProfile", _seccomp_set),
)
"""Baseline's rules, without those that a stricter one of the same matter replaces."""
