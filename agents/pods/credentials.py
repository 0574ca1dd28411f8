"""Registry credentials from pull secrets: which login fits an image. Pure."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable
from typing import Any

from agents.runtime.references import parse_reference
from orca.api.objects import Obj

_KINDS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}
_HUB = ("index.docker.io", "registry-1.docker.io", "docker.io")


def credentials_for(image: str, secrets: Iterable[Obj]) -> list[dict[str, str]]:
    """Logins for the image's registry, the most specific first; [] when there is none."""
    parsed = parse_reference(image)
    wanted = f"{parsed.domain}/{parsed.path}"
    matches: list[tuple[int, dict[str, str]]] = []
    for secret in secrets:
        for server, entry in _entries(secret).items():
            pattern = server.partition("://")[2] or server
            host, _, path = pattern.rstrip("/").partition("/")
            path = "" if path in ("v1", "v2") else path
            hosts = _HUB if host in _HUB else (host,)
            fits = any(fnmatch.fnmatchcase(parsed.domain, candidate) for candidate in hosts)
            if fits and (not path or wanted.startswith(f"{parsed.domain}/{path}")):
                login = _login(entry)
                if login is not None:
                    matches.append((len(path), {**login, "serveraddress": parsed.domain}))
    matches.sort(key=lambda match: -match[0])
    return [login for _, login in matches]


def _entries(secret: Obj) -> dict[str, Any]:
    key = _KINDS.get(secret.get("type", ""), "")
    try:
        content = json.loads(base64.b64decode((secret.get("data") or {}).get(key, "")))
    except (ValueError, binascii.Error):
        return {}
    if not isinstance(content, dict):
        return {}
    entries = content.get("auths", {}) if key == ".dockerconfigjson" else content
    return entries if isinstance(entries, dict) else {}


def _login(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    if entry.get("username"):
        return {"username": str(entry["username"]), "password": str(entry.get("password", ""))}
    try:
        user, colon, password = base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")
    except (ValueError, binascii.Error):
        return None
    return {"username": user, "password": password} if colon else None
