"""Labels of nodes that have newer names.

Reference: k8s.io/kubernetes ``pkg/api/node/util.go``.
"""

from __future__ import annotations

from collections.abc import Iterator

from orca.api.objects import Obj

_RENAMED = {
    "beta.kubernetes.io/arch": ("v1.14", "kubernetes.io/arch"),
    "beta.kubernetes.io/os": ("v1.14", "kubernetes.io/os"),
    "failure-domain.beta.kubernetes.io/region": ("v1.17", "topology.kubernetes.io/region"),
    "failure-domain.beta.kubernetes.io/zone": ("v1.17", "topology.kubernetes.io/zone"),
    "beta.kubernetes.io/instance-type": ("v1.17", "node.kubernetes.io/instance-type"),
}
_TEXTS = {label: f'deprecated since {since}; use "{new}" instead' for label, (since, new) in _RENAMED.items()} | {
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}


def renamed(label: str) -> str:
    """What to say about *label*; "" for one that is fine."""
    return _TEXTS.get(label, "")


def in_selector(selector: Obj | None, path: str) -> Iterator[str]:
    """A plain map of labels."""
    for label in selector or ():
        if text := renamed(label):
            yield f"{path}[{label}]: {text}"


def in_node_term(term: Obj, path: str) -> Iterator[str]:
    """One term of a node selector."""
    for i, rule in enumerate(term.get("matchExpressions") or ()):
        if text := renamed(rule.get("key") or ""):
            yield f"{path}.matchExpressions[{i}].key: {rule['key']} is {text}"


def in_node_terms(selector: Obj | None, path: str) -> Iterator[str]:
    """A node selector at *path*."""
    for i, term in enumerate((selector or {}).get("nodeSelectorTerms") or ()):
        yield from in_node_term(term, f"{path}.nodeSelectorTerms[{i}]")


def in_label_selector(selector: Obj | None, path: str) -> Iterator[str]:
    """A label selector on nodes."""
    yield from in_node_term(selector or {}, path)
    for label in (selector or {}).get("matchLabels") or ():
        if text := renamed(label):
            yield f"{path}.matchLabels.{label}: {text}"
