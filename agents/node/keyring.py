"""The files in `<root>/pki`: the cluster's CA, the node's two certificates with their keys, and its kubeconfig.

A certificate and its key are one file, replaced by rename, so that a crash never leaves a pair that does not fit. A key
whose certificate has not come yet waits in `<kind>.key.pending`: asking again after a crash uses the same key.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
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
        """The key for the next certificate of `kind`; empty when none waits."""
        try:
            return self._pending(kind).read_bytes()
        except FileNotFoundError:
            return b""

    def keep_pending_key(self, kind: str, key: bytes) -> None:
        """To be called before anybody is asked for its certificate."""
        if key != self.pending_key(kind):
            self.write(self._pending(kind), key)

    def drop_pending_key(self, kind: str) -> None:
        self._pending(kind).unlink(missing_ok=True)

    def accept(self, kind: str, certificate_pem: bytes) -> CertificateFacts:
        """Store a certificate issued for the pending key; raises ValueError when it does not fit the key."""
        facts = certificates.read_certificate(certificate_pem)
        content = certificate_pem.rstrip() + b"\n" + self.pending_key(kind)
        try:
            self.write(self.pair(kind), content, check=_must_fit)
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            raise ValueError(
                f"the {kind} certificate that was issued does not fit the key it was asked for: {reason}"
            ) from error
        self.drop_pending_key(kind)
        return facts

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

    def write(self, path: Path, content: bytes, *, check: Callable[[Path], None] = lambda _: None) -> None:
        """Replace a file in one step, mode 0600; when ``check`` of the new one raises, the old one stays."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            check(temporary)
        except BaseException:
            temporary.unlink()
            raise
        os.replace(temporary, path)

    def _pending(self, kind: str) -> Path:
        return self.directory / f"{kind}.key.pending"


def _must_fit(pair: Path) -> None:
    """Raises ssl.SSLError when TLS cannot use the certificate with the key."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair)


def covers(facts: CertificateFacts | None, names: Sequence[str]) -> bool:
    """True when the certificate is for all of `names`."""
    return facts is not None and facts.names.issuperset(names)
