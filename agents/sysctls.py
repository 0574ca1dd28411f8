"""Which sysctls pods may set on this host. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/sysctl``, k8s.io/component-helpers ``node/util/sysctl``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SAFE = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
"""What upstream's kubelet lets pods set without being told to."""
_NAMESPACES = (("kernel.shm", "ipc"), ("kernel.msg", "ipc"), ("fs.mqueue.", "ipc"), ("net.", "net"))
_SEGMENT = "[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?"
_PATTERN = re.compile(rf"(?:{_SEGMENT}[./])*(?:{_SEGMENT}|\*|{_SEGMENT}\*)")
LONGEST = 253


def dotted(name: str) -> str:
    """A name whose first separator is a slash, with dots: ``net/ipv4/conf/eth0.1`` is ``net.ipv4.conf.eth0/1``."""
    first = re.search("[./]", name)
    return name.translate(str.maketrans("./", "/.")) if first is not None and first[0] == "/" else name


def namespace_of(name: str) -> str:
    """``ipc`` or ``net``, "" for what the kernel has only once."""
    if name == "kernel.sem":
        return "ipc"
    return next((space for prefix, space in _NAMESPACES if name.startswith(prefix)), "")


def problem_with_patterns(patterns: Iterable[str]) -> str:
    """Why ``allowedUnsafeSysctls`` cannot be as it is; "" when it can."""
    for pattern in patterns:
        if len(pattern) > LONGEST or not _PATTERN.fullmatch(pattern):
            return f'sysctl "{pattern}" must have at most {LONGEST} characters and match regex {_PATTERN.pattern}'
        name = dotted(pattern)
        if not namespace_of(name.removesuffix("*")):
            return f'the sysctl "{name}" is not known to be namespaced'
    return ""


def problem_with(name: str, allowed: Iterable[str], *, host_network: bool, host_ipc: bool) -> str:
    """Why a pod may not set a sysctl; "" when it may. ``allowed`` are names, and beginnings of names that end in ``*``,
    besides the safe ones."""
    name = dotted(name)
    patterns = [dotted(pattern) for pattern in allowed]
    by_prefix = (one for one in patterns if one.endswith("*") and name.startswith(one[:-1]))
    if name not in SAFE and name not in patterns and next(by_prefix, None) is None:
        return f'"{name}" not allowlisted'
    space = namespace_of(name)
    if (space == "net" and host_network) or (space == "ipc" and host_ipc):
        return f'"{name}" not allowed with host {space} enabled'
    return ""
