"""Counts and times of JWT authenticators and of their configuration, under upstream's names.

Issuers and keys are shown by digests: labels are read by more people than configurations.
"""

from __future__ import annotations

import hashlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def digest(data: bytes) -> str:
    """``sha256:…``, "" for nothing."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}" if data else ""


class JwtMetrics:
    """``server`` identifies this server among others."""

    def __init__(self, registry: CollectorRegistry, server: str) -> None:
        self._server = digest(server.encode())
        self._latency = Histogram(
            "apiserver_authentication_jwt_authenticator_latency_seconds",
            "Time to authenticate a token that was not remembered.",
            ("result", "jwt_issuer_hash"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._fetched_at = Gauge(
            "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
            "When an issuer's keys were fetched last, by result.",
            ("result", "jwt_issuer_hash", "apiserver_id_hash"),
            registry=registry,
        )
        self._key_set = Gauge(
            "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info",
            "The keys of an issuer that were fetched last.",
            ("jwt_issuer_hash", "apiserver_id_hash", "hash"),
            registry=registry,
        )
        self._reloads = Counter(
            "apiserver_authentication_config_controller_automatic_reloads",
            "New contents of the authentication configuration's file, by status.",
            ("status", "apiserver_id_hash"),
            registry=registry,
        )
        self._reloaded_at = Gauge(
            "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
            "When the authentication configuration changed last, by status.",
            ("status", "apiserver_id_hash"),
            registry=registry,
        )
        self._config = Gauge(
            "apiserver_authentication_config_controller_last_config_info",
            "The authentication configuration in use.",
            ("apiserver_id_hash", "hash"),
            registry=registry,
        )
        self._sets: dict[str, str] = {}

    def authenticated(self, issuer: str, seconds: float, *, good: bool) -> None:
        """A token of ``issuer`` was looked at."""
        self._latency.labels("success" if good else "failure", digest(issuer.encode())).observe(seconds)

    def fetched(self, issuer: str, keys: bytes | None) -> None:
        """The keys of ``issuer``, None when they could not be fetched."""
        hashed = digest(issuer.encode())
        self._fetched_at.labels("failure" if keys is None else "success", hashed, self._server).set_to_current_time()
        if keys is not None:
            self.forget(issuer)
            self._sets[hashed] = digest(keys)
            self._key_set.labels(hashed, self._server, self._sets[hashed]).set(1)

    def forget(self, issuer: str) -> None:
        """``issuer`` is not configured any more, or has other keys."""
        hashed = digest(issuer.encode())
        if hashed in self._sets:
            self._key_set.remove(hashed, self._server, self._sets.pop(hashed))

    def in_use(self, content: bytes) -> None:
        """The configuration's file has this content."""
        self._config.clear()
        self._config.labels(self._server, digest(content)).set(1)

    def reloaded(self, *, good: bool) -> None:
        """The configuration's file has changed, and is used or not."""
        status = "success" if good else "failure"
        self._reloads.labels(status, self._server).inc()
        self._reloaded_at.labels(status, self._server).set_to_current_time()
