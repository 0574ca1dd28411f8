"""How fast a pod may send and receive: the annotations ``kubernetes.io/ingress-bandwidth`` and ``egress-bandwidth``.
Pure. Ingress and egress are as the pod sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orca.api.quantity import Quantity

INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
LEAST, MOST = 1_000, 10**15
"""Bits a second, as upstream's kubelets judge them (k8s.io/kubernetes pkg/util/bandwidth)."""


class BandwidthError(ValueError):
    """An annotation that says no bandwidth; the text is fit for an event."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bits a second; 0 is as fast as can be."""

    ingress: int = 0
    egress: int = 0

    def __bool__(self) -> bool:
        return bool(self.ingress or self.egress)


def bandwidth_of(annotations: Mapping[str, str]) -> Bandwidth:
    """Raises ``BandwidthError``."""
    return Bandwidth(_rate(annotations, INGRESS), _rate(annotations, EGRESS))


def _rate(annotations: Mapping[str, str], key: str) -> int:
    text = annotations.get(key)
    if text is None:
        return 0
    try:
        rate = Quantity.parse(text).integer
    except ValueError as error:
        raise BandwidthError(f"failed to get pod bandwidth: {error}") from error
    if rate < LEAST:
        raise BandwidthError("failed to get pod bandwidth: resource is unreasonably small (< 1kbit)")
    if rate > MOST:
        raise BandwidthError("failed to get pod bandwidth: resource is unreasonably large (> 1Pbit)")
    return rate
