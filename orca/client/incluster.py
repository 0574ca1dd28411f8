"""How a process in a pod reaches its cluster: the variables of the ``kubernetes`` Service, and the account's files.

Reference: client-go ``rest.InClusterConfig``. The token is renewed by the node and read anew when its file changes.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from orca.client.kubeconfig import Endpoint, KubeconfigError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class InCluster:
    """A source of credentials, as `Kubeconfig` is one. ``path`` is the directory with ``token`` and ``ca.crt``."""

    def __init__(self, path: Path = ACCOUNT, environment: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._environment = environment
        self._stamp: tuple[tuple[int, int], ...] = ()

    def load(self) -> Endpoint:
        """Reads everything anew. Raises KubeconfigError."""
        host = self._environment.get("KUBERNETES_SERVICE_HOST", "")
        port = self._environment.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port:
            raise KubeconfigError("KUBERNETES_SERVICE_HOST and _PORT are not set: this process runs in no pod")
        stamp = self._stamps()
        try:
            token = (self.path / "token").read_text().strip()
            trust = ssl.create_default_context(cadata=(self.path / "ca.crt").read_text())
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise KubeconfigError(f"{self.path}: {error}") from error
        self._stamp = stamp
        return Endpoint(f"https://{f'[{host}]' if ':' in host else host}:{port}", trust, token)

    def changed(self) -> bool:
        """Whether any file read by the last `load` is another one now."""
        return self._stamps() != self._stamp

    def namespace(self) -> str:
        """The pod's own namespace; "" when the file says none."""
        try:
            return (self.path / "namespace").read_text().strip()
        except OSError:
            return ""

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        try:
            found = [os.stat(self.path / file) for file in ("token", "ca.crt")]
        except OSError:
            return self._stamp  # between removal and renewal: keep what we have
        return tuple((one.st_mtime_ns, one.st_ino) for one in found)
