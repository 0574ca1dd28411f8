"""Certificates that were asked for with a lifetime, and whether they have it.

Reference: k8s.io/kubernetes ``pkg/registry/certificates/certificates/storage/metrics.go``.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator

import structlog
from cryptography import x509
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from orca.api.objects import Obj, name

log = structlog.get_logger()
_SLACK = 300.0  # seconds by which short ones begin early


class Lifetimes:
    """A collector of prometheus-client; ``written`` hears of every update."""

    def __init__(self) -> None:
        self._requested: Counter[str] = Counter()
        self._honored: Counter[str] = Counter()

    def written(self, old: Obj, new: Obj) -> None:
        """A request was stored. It is counted when it has got its certificate."""
        spec = old.get("spec") or {}
        wanted, issued = spec.get("expirationSeconds"), (new.get("status") or {}).get("certificate")
        if wanted is None or not issued or (old.get("status") or {}).get("certificate"):
            return
        said = spec.get("signerName") or ""
        signer = said if said.startswith("kubernetes.io/") else "other"
        self._requested[signer] += 1
        try:
            first = x509.load_pem_x509_certificates(base64.b64decode(issued))[0]
            lives = (first.not_valid_after_utc - first.not_valid_before_utc).total_seconds()
        except (ValueError, x509.InvalidVersion) as error:  # also where a year is none of Python's
            log.warning("an issued certificate cannot be read", name=name(new), error=str(error))
            return
        if abs(lives - wanted) < _SLACK + wanted / 20:
            self._honored[signer] += 1

    def collect(self) -> Iterator[Metric]:
        """All of it as metrics."""
        stem, labels = "apiserver_certificates_registry_csr", ("signerName",)
        for kind, text, counts in (
            ("honored", "Certificates with the lifetime that was asked for.", self._honored),
            ("requested", "Certificates that were asked for with a lifetime.", self._requested),
        ):
            found = CounterMetricFamily(f"{stem}_{kind}_duration", text, labels=labels)
            for signer, count in counts.items():
                found.add_metric((signer,), count)
            yield found
