"""Which labels of Kubernetes' own name spaces nodes may give themselves.

Reference: k8s.io/kubernetes ``staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go``.
"""

from __future__ import annotations

ROLE = "node-role.kubernetes.io/"
"""What labels begin with that tell a node's role: unlike upstream, one may name its own when it joins."""
KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)


def is_foreign(key: str) -> bool:
    """A label of Kubernetes' own name spaces that is not for nodes to set."""
    prefix = key.partition("/")[0] if "/" in key else ""
    if key in KUBELET_LABELS or not _is_below(prefix, "kubernetes.io", "k8s.io"):
        return False
    return not _is_below(prefix, *KUBELET_PREFIXES)


def _is_below(prefix: str, *domains: str) -> bool:
    return any(prefix == domain or prefix.endswith("." + domain) for domain in domains)
