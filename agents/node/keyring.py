"""The files in `<root>/pki`: the cluster's CA, the node's two certificates with their keys, and its kubeconfig.

A certificate and its key are one file, replaced by rename, so that a crash never leaves a pair that does not fit. A key
whose certificate has not come yet waits in `<kind>.key.pending`: asking again after a crash uses the same key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import structlog
import yaml

from agents.node import certificates
from agents.node.certificates import CertificateFacts

log = structlog.get_logger()

CLIENT, SERVING = "client", "serving"


class Keyring:
    """Reads and writes the directory; everything in it is readable by root only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"<Keyring {self.directory}>"

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def pair(self, kind: str) -> Path:
        """File with certificate and key of `kind` (CLIENT or SERVING)."""
        return self.directory / f"{kind}.pem"

    def certificate(self, kind: str) -> CertificateFacts | None:
        """Facts of the stored certificate; None when there is none or it cannot be read."""
        try:
            return certificates.read_certificate(self.pair(kind).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("a certificate cannot be read", file=str(self.pair(kind)), error=str(error))
            return None

    def pending_key(self, kind: str) -> bytes:
        """The key for the next certificate of `kind`, made at the first call."""
        path = self.directory / f"{kind}.key.pending"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            key = certificates.new_key()
            self.write(path, key)
            return key

    def drop_pending_key(self, kind: str) -> None:
        (self.directory / f"{kind}.key.pending").unlink(missing_ok=True)

    def accept(self, kind: str, certificate_pem: bytes) -> CertificateFacts:
        """Store a certificate issued for the pending key; raises ValueError when it does not fit the key."""
        key = self.pending_key(kind)
        if not certificates.key_fits(certificate_pem, key):
            raise ValueError(f"the {kind} certificate that was issued does not fit the key it was asked for")
        self.write(self.pair(kind), certificate_pem.rstrip() + b"\n" + key)
        self.drop_pending_key(kind)
        return certificates.read_certificate(certificate_pem)

    def write_kubeconfig(self, path: Path, server: str, user: dict[str, str]) -> None:
        """A kubeconfig with one context; `user` holds the credentials as kubeconfig fields."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "orca", "cluster": {"server": server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "node", "user": user}],
            "contexts": [{"name": "orca", "context": {"cluster": "orca", "user": "node"}}],
            "current-context": "orca",
        }
        self.write(path, yaml.safe_dump(document, sort_keys=False).encode())

    def write(self, path: Path, content: bytes) -> None:
        """Replace a file in one step, mode 0600."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def covers(facts: CertificateFacts | None, names: Sequence[str]) -> bool:
    """True when the certificate is for all of `names`."""
    return facts is not None and facts.names.issuperset(names)
