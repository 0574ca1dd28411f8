"""URLs. Reference: k8s.io/apiserver ``pkg/cel/library/urls.go``, Go's ``net/url``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import parse_qsl, quote

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare, traverse

_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BAD_HOST = re.compile(r"[\s<>\"\\^`{}|/?#]")
_PORT = re.compile(r"(:\d*)?")
# What Go leaves alone in a path.
_PATH_SAFE = "/$&+,:;=@!'()*-_.~%"


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed URL: absolute, or an absolute path."""

    text: str
    scheme: str
    host: str
    path: str
    query: str
    cel_type: ClassVar[str] = "kubernetes.URL"


def parse(text: str) -> Url:
    """As Go's ``url.ParseRequestURI``. Raises CelError with its text."""

    def bad(why: str) -> CelError:
        return CelError(f'URL parse error during conversion from string: parse "{text}": {why}')

    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise bad("net/url: invalid control character in URL")
    if not text:
        raise bad("empty url")
    rest, scheme, host = text, "", ""
    match = _ABSOLUTE.fullmatch(text)
    if match is not None:
        scheme, rest = match[1].lower(), match[2]
    elif text.startswith(":"):
        raise bad("missing protocol scheme")
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return Url(text, scheme, "", "", query)  # opaque, as mailto:someone
        raise bad("invalid URI for request")
    if scheme and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        host = authority.rpartition("@")[2]
        rest = slash + path
        name, port = split_host(host)
        if host.startswith("[") and "]" not in host:
            raise bad("missing ']' in host")
        if not _PORT.fullmatch(port):
            raise bad(f'invalid port "{port}" after host')
        found = _BAD_HOST.search(name)
        if found is not None:
            raise bad(f'invalid character "{found.group()}" in host name')
    found = _BAD_ESCAPE.search(rest) or _BAD_ESCAPE.search(host)
    if found is not None:
        raise bad(f'invalid URL escape "{(rest + host)[found.start() : found.start() + 3]}"')
    return Url(text, scheme, host, rest, query)


def split_host(host: str) -> tuple[str, str]:
    """Name and ``:port`` of ``name:port`` (``[::1]:80``)."""
    if host.startswith("["):
        end = host.rfind("]") + 1
        return host[:end], host[end:]
    name, colon, port = host.rpartition(":")
    return (name, colon + port) if colon else (host, "")


def _is_url(text: str) -> bool:
    try:
        parse(text)
    except CelError:
        return False
    return True


def _query(url: Url) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in parse_qsl(url.query, keep_blank_values=True):
        found.setdefault(key, []).append(value)
    return found


_OF = "kubernetes.URL.()"
declare("url", "(string) -> kubernetes.URL", parse, traverse())
declare("string", "(kubernetes.URL) -> string", lambda url: url.text)
declare("isURL", "(string) -> bool", _is_url, traverse())
declare("getScheme", f"{_OF} -> string", lambda url: url.scheme)
declare("getHost", f"{_OF} -> string", lambda url: url.host)
declare("getHostname", f"{_OF} -> string", lambda url: split_host(url.host)[0].strip("[]"))
declare("getPort", f"{_OF} -> string", lambda url: split_host(url.host)[1].removeprefix(":"))
declare("getEscapedPath", f"{_OF} -> string", lambda url: quote(url.path, safe=_PATH_SAFE))
declare("getQuery", f"{_OF} -> map(string, list(string))", _query)
