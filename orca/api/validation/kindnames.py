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


def cron_job_name(value: str) -> list[str]:
    """A subdomain that leaves room for the suffix of its jobs."""
    wrong = names.dns1123_subdomain(value)
    # 63 for a label, less 11 for "-" and the time in minutes.
    if len(value) > 52:
        wrong.append("must be no more than 52 characters")
    return wrong


_RBAC = "rbac.authorization.k8s.io"
_RULES: dict[tuple[str, str], NameRule] = {
    ("", "Namespace"): names.dns1123_label,
    ("", "Service"): names.dns1035_label,
    ("apps", "StatefulSet"): names.dns1123_label,
    ("batch", "CronJob"): cron_job_name,
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
