"""Which rule the names of a kind follow, where it is not that of RFC 1123 subdomains."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from orca.api import names

NameRule = Callable[[str], list[str]]


def any_segment(value: str) -> list[str]:
    """Whatever can stand in a URL's path."""
    return names.path_segment(value)


def ip_name(value: str) -> list[str]:
    """An IP address in canonical form."""
    wrong = names.ip_address(value)
    if wrong:
        return wrong
    canonical = str(ipaddress.ip_address(value))
    return [] if canonical == value else [f'must be in canonical form ("{canonical}")']


_RBAC = "rbac.authorization.k8s.io"
_RULES: dict[tuple[str, str], NameRule] = {
    ("", "Namespace"): names.dns1123_label,
    ("", "Service"): names.dns1123_label,
    ("apps", "StatefulSet"): names.dns1123_label,
    ("networking.k8s.io", "IPAddress"): ip_name,
    ("certificates.k8s.io", "CertificateSigningRequest"): any_segment,
    ("apiregistration.k8s.io", "APIService"): any_segment,
    (_RBAC, "Role"): any_segment,
    (_RBAC, "ClusterRole"): any_segment,
    (_RBAC, "RoleBinding"): any_segment,
    (_RBAC, "ClusterRoleBinding"): any_segment,
}


def rule_of(group: str, kind: str) -> NameRule | None:
    """The name rule of *kind*; None: RFC 1123 subdomain."""
    return _RULES.get((group, kind))
