"""What a kubeconfig says about reaching a server: address, trust, and who we are.

Files it refers to are watched by modification time, so renewed certificates and tokens are used without a restart; a
program it refers to (`exec`) is run again when what it printed is over. What cannot be done is refused by name: whoever
is left out without a word acts as somebody else.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from orca.client.execplugin import Credential, ExecPlugin, PluginFailed, plugin_of

_NONE = Credential()
_EXTENSION = "client.authentication.k8s.io/exec"
_TOLD = ("server", "tls-server-name", "insecure-skip-tls-verify")
"""What a program that asks for it is told of the cluster, besides its CA and the extension."""


class KubeconfigError(ValueError):
    """The file cannot be used; the message says why and names the file."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach one server. `server` has no trailing slash; `ssl` is None for plain http."""

    server: str
    ssl: ssl.SSLContext | None
    token: str = ""
    server_name: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """What further goes with each request: who is meant (impersonation)."""


class Kubeconfig:
    """One context of a kubeconfig file (the current one unless named)."""

    def __init__(self, path: str | Path, context: str = "") -> None:
        self.path = Path(path)
        self._context = context
        self._files: list[Path] = [self.path]
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._user = ""
        self._plugin: ExecPlugin | None = None
        self._credential = _NONE

    def load(self) -> Endpoint:
        """Reads everything anew. Raises KubeconfigError."""
        self._files = [self.path]
        parsed = self._parsed()
        cluster, user = self._chosen(parsed)
        server = str(cluster.get("server") or "").rstrip("/")
        if not server:
            raise KubeconfigError(f"{self.path}: the cluster has no server")
        headers = self._refused_or_meant(cluster, user)
        token = str(user.get("token") or "")
        if user.get("tokenFile"):
            try:
                token = self._follow(user["tokenFile"]).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise KubeconfigError(f"{self.path}: {error}") from error
        plugin, printed = None, _NONE
        if user.get("exec"):
            plugin, printed = self._run(user, cluster)
            token = token or printed.token
        trust = self._trust(cluster, user, printed) if server.startswith("https:") else None
        # Last, as others may look at them meanwhile from another thread.
        self._stamp, self._plugin, self._credential = self._stamps(), plugin, printed
        return Endpoint(server, trust, token, str(cluster.get("tls-server-name") or ""), headers)

    def server(self) -> str:
        """The server's URL, whoever we are. Raises KubeconfigError."""
        return str(self._chosen(self._parsed())[0].get("server") or "").rstrip("/")

    def namespace(self) -> str:
        """The namespace that the context names, else "default". Raises KubeconfigError."""
        parsed = self._parsed()
        wanted = self._context or parsed.get("current-context") or ""
        return str(self._named(parsed, "contexts", "context", wanted).get("namespace") or "default")

    @property
    def runs_program(self) -> bool:
        """Whether `load` may have to wait for a program of the user's."""
        return self._plugin is not None

    def refused(self) -> None:
        """The server took none of our credentials (401): what a program printed is over."""
        if self._plugin is not None:
            self._plugin.refused(self._credential)

    def changed(self) -> bool:
        """Whether any file read by the last `load` is another one now, or what a program printed is over."""
        if self._plugin is not None and self._plugin.is_over(self._credential):
            return True
        return self._stamps() != self._stamp

    def _parsed(self) -> dict[str, Any]:
        try:
            parsed = yaml.safe_load(self.path.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise KubeconfigError(f"{self.path}: {error}") from error
        if not isinstance(parsed, dict):
            raise KubeconfigError(f"{self.path}: is no kubeconfig")
        return parsed

    def _chosen(self, parsed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The context's cluster and user."""
        context = self._named(parsed, "contexts", "context", self._context or parsed.get("current-context") or "")
        cluster = self._named(parsed, "clusters", "cluster", context.get("cluster") or "")
        self._user = str(context.get("user") or "")
        return cluster, self._named(parsed, "users", "user", self._user) if self._user else {}

    def _refused_or_meant(self, cluster: dict[str, Any], user: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        """The headers that say who is meant. Raises KubeconfigError for what we could only leave out."""
        for section, where, fields in (
            (user, f"user {self._user!r}", ("auth-provider", "username", "password")),
            (cluster, "the cluster", ("proxy-url",)),
        ):
            for field in fields:
                if section.get(field):
                    raise KubeconfigError(f"{self.path}: {where} has {field}, which orca does not support")
        groups, extra = user.get("as-groups") or (), user.get("as-user-extra") or {}
        if not user.get("as"):
            if user.get("as-uid") or groups or extra:
                text = f"requesting uid, groups or user-extra for {self._user} without impersonating a user"
                raise KubeconfigError(f"{self.path}: {text}")
            return ()
        headers = [("Impersonate-User", str(user["as"]))]
        if user.get("as-uid"):
            headers.append(("Impersonate-Uid", str(user["as-uid"])))
        headers += [("Impersonate-Group", str(one)) for one in groups]
        for key, values in extra.items():
            headers += [(f"Impersonate-Extra-{quote(str(key), safe='')}", str(one)) for one in values]
        return tuple(headers)

    def _run(self, user: dict[str, Any], cluster: dict[str, Any]) -> tuple[ExecPlugin, Credential]:
        try:
            authority = self._content(cluster, "certificate-authority")
        except (OSError, ValueError) as error:
            raise KubeconfigError(f"{self.path}: {error}") from error
        told = {field: cluster[field] for field in _TOLD if cluster.get(field)}
        if authority:
            told["certificate-authority-data"] = base64.b64encode(authority).decode()
        for one in cluster.get("extensions") or ():
            if one.get("name") == _EXTENSION:
                told["config"] = one.get("extension")
        try:
            plugin = plugin_of(user["exec"], told, self._user, self.path.parent.absolute())
            return plugin, plugin.credential()
        except PluginFailed as error:
            raise KubeconfigError(f"{self.path}: {error}") from error

    def _named(self, parsed: dict[str, Any], plural: str, singular: str, wanted: str) -> dict[str, Any]:
        for entry in parsed.get(plural) or []:
            if entry.get("name") == wanted:
                return entry.get(singular) or {}
        if not wanted:
            told = "there is no current-context" if singular == "context" else f"the context names no {singular}"
            raise KubeconfigError(f"{self.path}: {told}")
        raise KubeconfigError(f"{self.path}: there is no {singular} {wanted!r}")

    def _follow(self, name: str) -> Path:
        path = self.path.parent / name
        self._files.append(path)
        return path

    def _trust(self, cluster: dict[str, Any], user: dict[str, Any], printed: Credential) -> ssl.SSLContext:
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
            if not certificate and printed.certificate:  # what the file says goes first, as in client-go
                certificate, private_key = printed.certificate.encode(), printed.key.encode()
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
