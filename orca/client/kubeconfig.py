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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from orca.client.execplugin import Credential, ExecPlugin, PluginFailed, plugin_of
from orca.client.kubeconfigfiles import KubeconfigError, Merged, Section

_NONE = Credential()
_EXTENSION = "client.authentication.k8s.io/exec"
_TOLD = ("server", "tls-server-name", "insecure-skip-tls-verify")
"""What a program that asks for it is told of the cluster, besides its CA and the extension."""


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
    """One context of a kubeconfig (the current one unless named), which may be several files."""

    def __init__(self, path: str | Path | Sequence[Path], context: str = "") -> None:
        """Several paths are merged, as far as there are such files."""
        self._needed = isinstance(path, str | Path)
        self._paths = (Path(path),) if isinstance(path, str | Path) else tuple(path)
        self._context = context
        self._files: list[Path] = list(self._paths)
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._user = ""
        self._plugin: ExecPlugin | None = None
        self._credential = _NONE

    @property
    def path(self) -> Path:
        """The first file."""
        return self._paths[0]

    def load(self) -> Endpoint:
        """Reads everything anew. Raises KubeconfigError."""
        parsed = self._parsed()
        self._files = parsed.files
        cluster, user = self._chosen(parsed)
        server = str(cluster.fields.get("server") or "").rstrip("/")
        if not server:
            raise KubeconfigError(f"{cluster.file}: the cluster has no server")
        headers = self._refused_or_meant(cluster, user)
        token = str(user.fields.get("token") or "")
        if user.fields.get("tokenFile"):
            try:
                token = self._follow(user, "tokenFile").read_text().strip()
            except (OSError, ValueError) as error:
                raise KubeconfigError(f"{user.file}: {error}") from error
        plugin, printed = None, _NONE
        if user.fields.get("exec"):
            plugin, printed = self._run(user, cluster)
            token = token or printed.token
        trust = self._trust(cluster, user, printed) if server.startswith("https:") else None
        # Last, as others may look at them meanwhile from another thread.
        self._stamp, self._plugin, self._credential = self._stamps(), plugin, printed
        return Endpoint(server, trust, token, str(cluster.fields.get("tls-server-name") or ""), headers)

    def server(self) -> str:
        """The server's URL, whoever we are. Raises KubeconfigError."""
        return str(self._chosen(self._parsed())[0].fields.get("server") or "").rstrip("/")

    def namespace(self) -> str:
        """The namespace that the context names, else "default". Raises KubeconfigError."""
        parsed = self._parsed()
        context = parsed.section("context", self._context or parsed.current)
        return str(context.fields.get("namespace") or "default")

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

    def _parsed(self) -> Merged:
        return Merged(self._paths, needed=self._needed)

    def _chosen(self, parsed: Merged) -> tuple[Section, Section]:
        """The context's cluster and user."""
        context = parsed.section("context", self._context or parsed.current)
        cluster = parsed.section("cluster", str(context.fields.get("cluster") or ""))
        self._user = str(context.fields.get("user") or "")
        return cluster, parsed.section("user", self._user) if self._user else Section({}, context.file)

    def _refused_or_meant(self, cluster: Section, user: Section) -> tuple[tuple[str, str], ...]:
        """The headers that say who is meant. Raises KubeconfigError for what we could only leave out."""
        for section, where, fields in (
            (user, f"user {self._user!r}", ("auth-provider", "username", "password")),
            (cluster, "the cluster", ("proxy-url",)),
        ):
            for field in fields:
                if section.fields.get(field):
                    raise KubeconfigError(f"{section.file}: {where} has {field}, which orca does not support")
        said = user.fields
        groups, extra = said.get("as-groups") or (), said.get("as-user-extra") or {}
        if not said.get("as"):
            if said.get("as-uid") or groups or extra:
                text = f"requesting uid, groups or user-extra for {self._user} without impersonating a user"
                raise KubeconfigError(f"{user.file}: {text}")
            return ()
        headers = [("Impersonate-User", str(said["as"]))]
        if said.get("as-uid"):
            headers.append(("Impersonate-Uid", str(said["as-uid"])))
        headers += [("Impersonate-Group", str(one)) for one in groups]
        for key, values in extra.items():
            headers += [(f"Impersonate-Extra-{quote(str(key), safe='')}", str(one)) for one in values]
        return tuple(headers)

    def _run(self, user: Section, cluster: Section) -> tuple[ExecPlugin, Credential]:
        try:
            authority = self._content(cluster, "certificate-authority")
        except (OSError, ValueError) as error:
            raise KubeconfigError(f"{cluster.file}: {error}") from error
        told = {field: cluster.fields[field] for field in _TOLD if cluster.fields.get(field)}
        if authority:
            told["certificate-authority-data"] = base64.b64encode(authority).decode()
        for one in cluster.fields.get("extensions") or ():
            if one.get("name") == _EXTENSION:
                told["config"] = one.get("extension")
        try:
            plugin = plugin_of(user.fields["exec"], told, self._user, user.file.parent.absolute())
            return plugin, plugin.credential()
        except PluginFailed as error:
            raise KubeconfigError(f"{user.file}: {error}") from error

    def _follow(self, section: Section, field: str) -> Path:
        path = section.file.parent / section.fields[field]
        self._files.append(path)
        return path

    def _trust(self, cluster: Section, user: Section, printed: Credential) -> ssl.SSLContext:
        reading = cluster.file
        try:
            authority = self._content(cluster, "certificate-authority")
            if cluster.fields.get("insecure-skip-tls-verify"):
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            else:
                context = ssl.create_default_context(cadata=authority.decode() if authority else None)
            reading = user.file
            certificate = self._content(user, "client-certificate")
            private_key = self._content(user, "client-key")
            if not certificate and printed.certificate:  # what the file says goes first, as in client-go
                certificate, private_key = printed.certificate.encode(), printed.key.encode()
            if certificate:
                use_certificate(context, certificate, private_key)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise KubeconfigError(f"{reading}: {error}") from error
        return context

    def _content(self, section: Section, field: str) -> bytes:
        if section.fields.get(f"{field}-data"):
            return base64.b64decode(section.fields[f"{field}-data"])
        if section.fields.get(field):
            return self._follow(section, field).read_bytes()
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
