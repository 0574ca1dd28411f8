"""What a kubeconfig says about reaching a server: address, trust, and who we are.

Files it refers to are watched by modification time, so renewed certificates and tokens are used without a restart.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class KubeconfigError(ValueError):
    """The file cannot be used; the message says why and names the file."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach one server. `server` has no trailing slash; `ssl` is None for plain http."""

    server: str
    ssl: ssl.SSLContext | None
    token: str = ""
    server_name: str = ""


class Kubeconfig:
    """One context of a kubeconfig file (the current one unless named)."""

    def __init__(self, path: str | Path, context: str = "") -> None:
        self.path = Path(path)
        self._context = context
        self._files: list[Path] = [self.path]
        self._stamp: tuple[tuple[int, int], ...] = ()

    def load(self) -> Endpoint:
        """Reads everything anew. Raises KubeconfigError."""
        self._files = [self.path]
        try:
            parsed = yaml.safe_load(self.path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise KubeconfigError(f"{self.path}: {error}") from error
        context = self._named(parsed, "contexts", "context", self._context or parsed.get("current-context") or "")
        cluster = self._named(parsed, "clusters", "cluster", context.get("cluster") or "")
        user = self._named(parsed, "users", "user", context.get("user") or "") if context.get("user") else {}
        server = str(cluster.get("server") or "").rstrip("/")
        if not server:
            raise KubeconfigError(f"{self.path}: cluster {context.get('cluster')!r} has no server")
        token = str(user.get("token") or "")
        if user.get("tokenFile"):
            token = self._follow(user["tokenFile"]).read_text().strip()
        trust = self._trust(cluster, user) if server.startswith("https:") else None
        endpoint = Endpoint(server, trust, token, str(cluster.get("tls-server-name") or ""))
        self._stamp = self._stamps()
        return endpoint

    def namespace(self) -> str:
        """The namespace that the context names, else "default". Raises KubeconfigError."""
        try:
            parsed = yaml.safe_load(self.path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise KubeconfigError(f"{self.path}: {error}") from error
        wanted = self._context or parsed.get("current-context") or ""
        return str(self._named(parsed, "contexts", "context", wanted).get("namespace") or "default")

    def changed(self) -> bool:
        """Whether any file read by the last `load` is another one now."""
        return self._stamps() != self._stamp

    def _named(self, parsed: dict[str, Any], plural: str, singular: str, wanted: str) -> dict[str, Any]:
        for entry in parsed.get(plural) or []:
            if entry.get("name") == wanted:
                return entry.get(singular) or {}
        raise KubeconfigError(f"{self.path}: there is no {singular} {wanted!r}")

    def _follow(self, name: str) -> Path:
        path = self.path.parent / name
        self._files.append(path)
        return path

    def _trust(self, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
        try:
            authority = self._content(cluster, "certificate-authority")
            if cluster.get("insecure-skip-tls-verify"):
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            else:
                context = ssl.create_default_context(cadata=authority.decode() if authority else None)
            certificate = self._content(user, "client-certificate")
            private_key = self._content(user, "client-key")
            if certificate:
                use_certificate(context, certificate, private_key)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise KubeconfigError(f"{self.path}: {error}") from error
        return context

    def _content(self, section: dict[str, Any], field: str) -> bytes:
        if section.get(f"{field}-data"):
            return base64.b64decode(section[f"{field}-data"])
        if section.get(field):
            return self._follow(section[field]).read_bytes()
        return b""

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        stamps = []
        for path in self._files:
            try:
                found = os.stat(path)
            except OSError:
                # Between removal and renewal: keep what we have.
                return self._stamp
            stamps.append((found.st_mtime_ns, found.st_ino))
        return tuple(stamps)


def use_certificate(context: ssl.SSLContext, certificate: bytes, private_key: bytes) -> None:
    """Loads a PEM pair; the ssl module reads files only, so it passes through one that only we can read."""
    with tempfile.NamedTemporaryFile(prefix="orca-") as pair:
        pair.write(certificate.rstrip() + b"\n" + private_key)
        pair.flush()
        context.load_cert_chain(pair.name)
