"""Registry credentials: which logins fit an image, and in what order they are tried. Pure.

Upstream: ``pkg/credentialprovider``. A key of a Docker configuration is a host with a glob in each of its labels, a
port, and the beginning of a path; longer ones come first, those of the pod's secrets before those of the node.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agents.images.access import SecretUse, repository_of
from orca.api.objects import Obj, meta

_KINDS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}
_HUB = "index.docker.io"
"""Its credentials fit all images of Docker Hub when no others do."""
HUB_ADDRESS = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Login:
    """What the engine is to show to the registry; ``source`` is None for what every pod of the node has."""

    auth: Mapping[str, str]
    source: SecretUse | None = None


def credentials_for(image: str, secrets: Iterable[Obj], node: Iterable[Mapping[str, Any]] = ()) -> list[Login]:
    """Logins to try one after the other; [] when there is none and the pull is anonymous. ``node``: entries of the
    node's own Docker configurations. Raises ``InvalidReference``."""
    pods = [(entries_of(secret), secret) for secret in secrets]
    found = _lookup(image, pods)
    found += _lookup(image, [(entries, None) for entries in node])
    unique: list[Login] = []
    for login in found:
        if login not in unique:
            unique.append(login)
    return unique


def _lookup(image: str, configurations: Iterable[tuple[Mapping[str, Any], Obj | None]]) -> list[Login]:
    wanted = repository_of(image)
    ring: dict[str, list[Login]] = {}
    for entries, secret in configurations:
        for server, entry in entries.items():
            login, key = _login(entry), _key_of(server)
            if login is not None and key is not None:
                login["serveraddress"] = HUB_ADDRESS if wanted.startswith("docker.io/") else wanted.partition("/")[0]
                ring.setdefault(key, []).append(Login(login, _source(secret, login)))
    found = [login for key in sorted(ring, reverse=True) if fits(key, wanted) for login in ring[key]]
    if not found and wanted.startswith(("docker.io/", _HUB + "/")):
        found = ring.get(_HUB, [])
    return found


def _key_of(server: str) -> str | None:
    """``host[:port][/path]``, without the scheme and the registry API's own path; None for what is no address."""
    try:
        parts = urlsplit(server if server.startswith(("https://", "http://")) else f"https://{server}")
    except ValueError:
        return None
    path = parts.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parts.netloc + (path if path != "/" else "")


def fits(pattern: str, wanted: str) -> bool:
    """Whether a key (``*.example.com:5000/team``) fits a repository (``eu.example.com:5000/team/app``): each label of
    the host by its glob, port as it is, path as a prefix."""
    host, slash, path = pattern.partition("/")
    wanted_host, _, wanted_path = wanted.partition("/")
    name, _, port = host.partition(":")
    wanted_name, _, wanted_port = wanted_host.partition(":")
    labels, wanted_labels = name.split("."), wanted_name.split(".")
    if port != wanted_port or len(labels) != len(wanted_labels) or not f"/{wanted_path}".startswith(slash + path):
        return False
    # Go writes [^a] where Python has [!a].
    return all(
        fnmatch.fnmatchcase(there, label.replace("[^", "[!"))
        for label, there in zip(labels, wanted_labels, strict=True)
    )


def entries_of(secret: Obj) -> dict[str, Any]:
    """Servers and their logins in a pull secret; {} for one of another type, or which cannot be read."""
    key = _KINDS.get(secret.get("type", ""), "")
    try:
        content = json.loads(base64.b64decode((secret.get("data") or {}).get(key, "")))
    except (ValueError, binascii.Error):
        return {}
    return entries_in(content, wrapped=key == ".dockerconfigjson")


def entries_in(content: Any, *, wrapped: bool) -> dict[str, Any]:
    """Servers and their logins in a parsed ``config.json`` (``wrapped`` in ``auths``) or ``.dockercfg``."""
    if not isinstance(content, dict):
        return {}
    entries = content.get("auths", {}) if wrapped else content
    return entries if isinstance(entries, dict) else {}


def _login(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    if entry.get("auth"):
        # Comes before user name and password, as upstream.
        try:
            user, colon, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except (ValueError, binascii.Error):
            return None
        return {"username": user, "password": password.strip("\0")} if colon else None
    if entry.get("username"):
        return {"username": str(entry["username"]), "password": str(entry.get("password", ""))}
    return None


def _source(secret: Obj | None, login: Mapping[str, str]) -> SecretUse | None:
    if secret is None:
        return None
    metadata = meta(secret)
    said = {key: value for key, value in login.items() if key != "serveraddress"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return SecretUse(metadata.get("uid") or "", metadata.get("namespace") or "", metadata.get("name") or "", digest)
