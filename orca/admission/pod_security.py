"""PodSecurity: the ``pod-security.kubernetes.io/…`` labels of a namespace, enforced.

``enforce`` refuses pods; ``warn`` answers with warnings, also for what makes pods (Deployments, …); ``audit`` goes
into the audit log. Every version label means the newest standards. Reference:
k8s.io/pod-security-admission ``admission``.
"""

from __future__ import annotations

import re
from typing import Any

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster, find
from orca.admission.pod_standards import check
from orca.api.builtin import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    PODTEMPLATES,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from orca.api.errors import FieldError, invalid
from orca.api.objects import Obj, labels, meta, name
from orca.api.resources import Resource

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
MODES = ("enforce", "audit", "warn")
_LEVEL_LABELS = frozenset(PREFIX + mode for mode in MODES)
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]*)")
_SPEC_TEMPLATE = ("spec", "template")
_TEMPLATES: dict[Resource, tuple[str, ...]] = {
    PODTEMPLATES: ("template",),
    CRONJOBS: ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys((DAEMONSETS, DEPLOYMENTS, JOBS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS), _SPEC_TEMPLATE),
}


def problems_of(labelled: dict[str, str]) -> list[FieldError]:
    """What is wrong with a namespace's own labels."""
    found = []
    for mode in MODES:
        level, version = PREFIX + mode, f"{PREFIX}{mode}-version"
        if level in labelled and labelled[level] not in LEVELS:
            text = f"must be one of {', '.join(LEVELS)}"
            found.append(FieldError.invalid(f"metadata.labels[{level}]", labelled[level], text))
        if version in labelled and not _VERSION.fullmatch(labelled[version]):
            text = 'must be "latest" or "v1.x"'
            found.append(FieldError.invalid(f"metadata.labels[{version}]", labelled[version], text))
    return found


def policy(labelled: dict[str, str], mode: str) -> tuple[str, str]:
    """(level, version) of one mode. A level that is none (stored before this check was there) is the strictest."""
    level = labelled.get(PREFIX + mode) or "privileged"
    version = labelled.get(f"{PREFIX}{mode}-version") or "latest"
    return (level if level in LEVELS else "restricted"), (version if _VERSION.fullmatch(version) else "latest")


def _told(findings: list[tuple[str, str]]) -> str:
    return ", ".join(f"{reason} ({detail})" for reason, detail in findings)


class PodSecurity:
    """As upstream's plugin of this name, without exemptions."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403 for a pod below the namespace's level, 422 for labels that are no level."""
        if attrs.obj is None or attrs.operation not in (CREATE, UPDATE):
            return
        if attrs.resource is NAMESPACES and not attrs.subresource:
            self._namespace(attrs, attrs.obj)
        elif attrs.resource is PODS:
            # What else of a pod may change has no part in the standards.
            if attrs.subresource == "ephemeralcontainers" or attrs.of(PODS, CREATE):
                await self._pod(attrs, attrs.obj, enforce=True)
        elif attrs.resource in _TEMPLATES and not attrs.subresource:
            template: Any = attrs.obj
            for step in _TEMPLATES[attrs.resource]:
                template = template.get(step) or {}
            await self._pod(attrs, template, enforce=False)

    async def _pod(self, attrs: Attributes, pod: Obj, *, enforce: bool) -> None:
        space = await find(self._cluster, NAMESPACES, "", attrs.namespace)
        labelled = labels(space) if space is not None else {}
        if _LEVEL_LABELS.isdisjoint(labelled):
            return
        metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
        level, version = policy(labelled, "enforce")
        if enforce:
            attrs.annotate(f"{PREFIX}enforce-policy", f"{level}:{version}")
        if enforce and (found := check(level, metadata, spec)):
            raise attrs.forbidden(f'violates PodSecurity "{level}:{version}": {_told(found)}')
        level, version = policy(labelled, "audit")
        if found := check(level, metadata, spec):
            text = f'would violate PodSecurity "{level}:{version}": {_told(found)}'
            attrs.annotate(f"{PREFIX}audit-violations", text)
        level, version = policy(labelled, "warn")
        if found := check(level, metadata, spec):
            text = f'would violate PodSecurity "{level}:{version}": {_told(found)}'
            if text not in attrs.warnings:
                attrs.warnings.append(text)

    def _namespace(self, attrs: Attributes, space: Obj) -> None:
        now = labels(space)
        before = labels(attrs.old) if attrs.old is not None else {}
        problems = problems_of(now)
        if problems and not (attrs.old is not None and problems_of(before)):
            raise invalid(NAMESPACES, name(space), problems)
        level, version = policy(now, "enforce")
        if attrs.old is None or level == "privileged" or (level, version) == policy(before, "enforce"):
            return
        told: dict[str, list[str]] = {}
        for pod in self._cluster.peek_list(PODS, name(space)):
            if found := check(level, meta(pod), pod.get("spec") or {}):
                told.setdefault(", ".join(reason for reason, _ in found), []).append(name(pod))
        if not told:
            return
        rule = f'the new PodSecurity enforce level "{level}:{version}"'
        lines = [f'existing pods in namespace "{name(space)}" violate {rule}']
        for reasons, pods in told.items():
            more = len(pods) - 1
            others = f" (and {more} other pod{'s' if more > 1 else ''})" if more else ""
            lines.append(f"{min(pods)}{others}: {reasons}")
        attrs.warnings.extend(line for line in lines if line not in attrs.warnings)
