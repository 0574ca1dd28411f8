"""What annotations of an Ingress ask for, under ingress-nginx's names and with its defaults, judged one by one.

Every value is parsed into numbers, addresses, flags or text of a narrow alphabet; what does not parse is told and left
at its default. Where that would open what its owner wanted shut (who may come in, who is who), the Ingress is denied
instead: all its paths answer 503. So are annotations for such protection that are not supported here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from orca.api import names

PREFIX = "nginx.ingress.kubernetes.io/"
REDIRECT_VARIABLES = frozenset({"host", "request_uri", "uri", "args", "scheme"})
"""Variables of nginx that targets of redirects may use."""
REALM = "Authentication Required"
CAPTURES = frozenset("123456789")
_SIZE = re.compile(r"[0-9]{1,9}[kKmMgG]?")
_COOKIE = re.compile(r"[A-Za-z0-9!#%&'*+.^_`|~-]{1,128}")
_COOKIE_PATH = re.compile(r"/[A-Za-z0-9._~/%@:+-]{0,255}")
_REWRITE = re.compile(r"(?:https?://)?[A-Za-z0-9._~/%@:+,;=&?$(){}!*'-]{1,1000}")
_URL = re.compile(r"[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~{}-]{1,2000}")
_PATH = re.compile(r"/[A-Za-z0-9._~/%@:+,;=&?#-]{0,1000}")
_HEADER = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ORIGIN = re.compile(r"(?:\*|https?://[A-Za-z0-9*._-]+(?::[0-9]{1,5})?)")
_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT"})
_NEXT = frozenset(
    {"error", "timeout", "invalid_header", "non_idempotent", "off", "http_500", "http_502", "http_503", "http_504"}
    | {"http_403", "http_404", "http_429"}
)


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer instead of a backend."""

    code: int
    target: str


@dataclass(frozen=True, slots=True)
class Affinity:
    """A cookie that leads a client to the endpoint it had before. ``max_age`` in seconds, -1: for the session."""

    cookie: str = "INGRESSCOOKIE"
    path: str = ""
    max_age: int = -1
    same_site: str = ""
    secure: bool | None = None
    change_on_failure: bool = False


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """Who may come in: the Secret ``namespace/name``, as a file of htpasswd in its key ``auth`` or a key a user."""

    secret: str
    realm: str = REALM
    by_user: bool = False


@dataclass(frozen=True, slots=True)
class Cors:
    """Answers for scripts of other origins."""

    origins: tuple[str, ...] = ("*",)
    methods: str = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
    headers: str = (
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
    )
    expose: str = ""
    credentials: bool = True
    max_age: int = 1728000


@dataclass(frozen=True, slots=True)
class Settings:
    """How the paths of one Ingress are served; times in seconds, sizes as nginx writes them."""

    rewrite_target: str = ""
    use_regex: bool = False
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    body_size: str = "1m"
    connect_timeout: int = 5
    send_timeout: int = 60
    read_timeout: int = 60
    buffering: bool = False
    request_buffering: bool = True
    buffer_size: str = "4k"
    next_upstream: str = "error timeout"
    next_tries: int = 3
    next_timeout: int = 0
    protocol: str = "HTTP"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    app_root: str = ""
    redirect: Redirect | None = None
    affinity: Affinity | None = None
    basic_auth: BasicAuth | None = None
    cors: Cors | None = None
    aliases: tuple[str, ...] = ()
    upstream_vhost: str = ""
    forwarded_prefix: str = ""
    service_upstream: bool = False
    requests_per_second: int = 0
    requests_per_minute: int = 0
    connections: int = 0
    burst_multiplier: int = 5
    access_log: bool = True
    denied: str = ""
    """Why nothing of the Ingress is served: one of its annotations for protection cannot be honoured."""


DEFAULTS = Settings()


@dataclass(frozen=True, slots=True)
class Judged:
    """Settings, and what of the annotations could not be honoured, in words for a person."""

    settings: Settings
    problems: tuple[str, ...] = ()
    canary: bool = False
    """It asks for a share of another Ingress's requests, which is not supported; serving it would give it all."""


class _Bad(ValueError):
    """What is wrong with a value."""


def _flag(value: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise _Bad('must be "true" or "false"')


def _on_off(value: str) -> bool:
    if value in ("on", "off"):
        return value == "on"
    raise _Bad('must be "on" or "off"')


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise _Bad(f"must be a number from {least} to {most}")
        return int(value)

    return parse


def _seconds(value: str) -> int:
    return _number(1, 31_536_000)(value.removesuffix("s"))


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not pattern.fullmatch(value):
            raise _Bad(f"must be {what}")
        return value

    return parse


def _among(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise _Bad(f"must be one of {', '.join(allowed)}")
        return value

    return parse


def _networks(value: str) -> tuple[str, ...]:
    found = []
    for word in value.split(","):
        try:
            found.append(str(ipaddress.ip_network(word.strip(), strict=False)))
        except ValueError:
            raise _Bad(f"{word.strip()!r} is not an address or network") from None
    return tuple(dict.fromkeys(found))


def _rewrite(value: str) -> str:
    if not _REWRITE.fullmatch(value):
        raise _Bad("must be a path, with $1 to $9 for what groups of the path's expression matched")
    if re.search(r"\$(?![1-9](?![0-9]))", value):
        raise _Bad("may use no variables but $1 to $9")
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if not _URL.fullmatch(value) or parts.scheme not in ("http", "https") or not parts.netloc:
        raise _Bad("must be a URL that begins with http:// or https://")
    for name in re.findall(r"\$\{?([A-Za-z0-9_]*)", value):
        if name not in REDIRECT_VARIABLES:
            raise _Bad(f"${name} is not one of the variables {', '.join(sorted(REDIRECT_VARIABLES))}")
    return value


def _hosts(value: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip().lower() for word in value.split(",") if word.strip()))
    for host in found:
        if names.dns1123_subdomain(host):
            raise _Bad(f"{host!r} is not a DNS name")
    return found


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?", value):
        raise _Bad("must be a host name")
    return value


def _next_upstream(value: str) -> str:
    words = value.split()
    if not words or not _NEXT.issuperset(words):
        raise _Bad(f"may contain {' '.join(sorted(_NEXT))}")
    return " ".join(dict.fromkeys(words))


def _listed(item: Callable[[str], bool], what: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        words = [word.strip() for word in value.split(",")]
        for word in words:
            if not item(word):
                raise _Bad(f"{word!r} is not {what}")
        return ", ".join(words)

    return parse


def _origins(value: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in value.split(",") if word.strip())
    for word in words:
        if not _ORIGIN.fullmatch(word) or (word != "*" and "*" in word.removeprefix(word.split("//")[0] + "//*.")):
            raise _Bad(f"{word!r} is not an origin as https://example.com or https://*.example.com")
    if not words:
        raise _Bad("must name an origin")
    return words


def _plain(value: str) -> str:
    if not re.fullmatch(r"[^\x00-\x1f\x7f\"\\$]{1,200}", value):
        raise _Bad("must be plain text")
    return value


_header_names = _listed(lambda word: word == "*" or bool(_HEADER.fullmatch(word)), "a header's name")
_method_names = _listed(_METHODS.__contains__, "a method")
_count = _number(0, 1_000_000)

_PLAIN: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "rewrite-target": ("rewrite_target", _rewrite),
    "use-regex": ("use_regex", _flag),
    "ssl-redirect": ("ssl_redirect", _flag),
    "force-ssl-redirect": ("force_ssl_redirect", _flag),
    "proxy-body-size": ("body_size", _matching(_SIZE, "a size as 8m")),
    "proxy-connect-timeout": ("connect_timeout", _seconds),
    "proxy-send-timeout": ("send_timeout", _seconds),
    "proxy-read-timeout": ("read_timeout", _seconds),
    "proxy-buffering": ("buffering", _on_off),
    "proxy-request-buffering": ("request_buffering", _on_off),
    "proxy-buffer-size": ("buffer_size", _matching(re.compile(r"[1-9][0-9]{0,4}[kKmM]"), "a size as 8k")),
    "proxy-next-upstream": ("next_upstream", _next_upstream),
    "proxy-next-upstream-tries": ("next_tries", _number(1, 100)),
    "proxy-next-upstream-timeout": ("next_timeout", _number(0, 3600)),
    "app-root": ("app_root", _matching(_PATH, "a path")),
    "server-alias": ("aliases", _hosts),
    "upstream-vhost": ("upstream_vhost", _host),
    "x-forwarded-prefix": ("forwarded_prefix", _matching(_COOKIE_PATH, "a path")),
    "service-upstream": ("service_upstream", _flag),
    "enable-access-log": ("access_log", _flag),
    "limit-burst-multiplier": ("burst_multiplier", _number(1, 1000)),
}
_PROTECTING: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "whitelist-source-range": ("allow", _networks),
    "allowlist-source-range": ("allow", _networks),
    "denylist-source-range": ("deny", _networks),
    "limit-rps": ("requests_per_second", _count),
    "limit-rpm": ("requests_per_minute", _count),
    "limit-connections": ("connections", _count),
}
"""A value that cannot be read denies the Ingress."""
_AFFINITY: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "session-cookie-name": ("cookie", _matching(_COOKIE, "a cookie's name")),
    "session-cookie-path": ("path", _matching(_COOKIE_PATH, "a path")),
    "session-cookie-max-age": ("max_age", _number(0, 999_999_999)),
    "session-cookie-expires": ("max_age", _number(0, 999_999_999)),
    "session-cookie-samesite": ("same_site", _among("None", "Lax", "Strict")),
    "session-cookie-secure": ("secure", _flag),
    "session-cookie-change-on-failure": ("change_on_failure", _flag),
}
_CORS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "cors-allow-origin": ("origins", _origins),
    "cors-allow-methods": ("methods", _method_names),
    "cors-allow-headers": ("headers", _header_names),
    "cors-expose-headers": ("expose", _header_names),
    "cors-allow-credentials": ("credentials", _flag),
    "cors-max-age": ("max_age", _number(0, 999_999_999)),
}
_JOINED = frozenset(
    {"backend-protocol", "proxy-http-version", "affinity", "affinity-mode", "enable-cors", "canary"}
    | {"auth-type", "auth-secret", "auth-secret-type", "auth-realm"}
    | {"permanent-redirect", "permanent-redirect-code", "temporal-redirect", "temporal-redirect-code"}
)
_GUARDS = ("auth-", "modsecurity", "enable-modsecurity", "enable-owasp", "satisfy", "enable-global-auth", "global-rate")
"""How annotations begin that protect; one of these that is not supported denies the Ingress."""


def judge(annotations: Mapping[str, str], namespace: str) -> Judged:
    """The settings that an Ingress in ``namespace`` asks for."""
    wanted = {key.removeprefix(PREFIX): text.strip() for key, text in annotations.items() if key.startswith(PREFIX)}
    if not wanted:
        return Judged(DEFAULTS)
    return _Judge(wanted, namespace).judged()


class _Judge:
    def __init__(self, wanted: Mapping[str, str], namespace: str) -> None:
        self._wanted = wanted
        self._namespace = namespace
        self._problems: list[str] = []
        self._denied: list[str] = []

    def judged(self) -> Judged:
        found = {**self._read(_PLAIN), **self._read(_PROTECTING, protecting=True)}
        settings = replace(
            DEFAULTS,
            **found,
            protocol=self._protocol(),
            redirect=self._redirect(),
            affinity=self._affinity(),
            basic_auth=self._basic_auth(),
            cors=self._cors(),
        )
        self._unknown()
        canary = self._wanted.get("canary", "false") not in ("false", "0", "f")
        if canary:
            self._problems.append(f"{PREFIX}canary: is not supported; nothing of this Ingress is served")
        return Judged(replace(settings, denied="; ".join(self._denied)), tuple(self._problems), canary)

    def _one(self, name: str, parse: Callable[[str], Any], *, protecting: bool = False) -> Any:
        """The parsed value, or None when there is none or it is bad."""
        if name not in self._wanted:
            return None
        value = self._wanted[name]
        try:
            if not value.isprintable():
                raise _Bad("has characters that cannot be printed")
            return parse(value)
        except _Bad as bad:
            self._tell(f"{PREFIX}{name}: {bad}", protecting=protecting)
            return None

    def _tell(self, text: str, *, protecting: bool = False) -> None:
        if protecting:
            self._denied.append(text)
            text += "; until that is mended its paths answer 503"
        self._problems.append(text)

    def _read(
        self, table: Mapping[str, tuple[str, Callable[[str], Any]]], *, protecting: bool = False
    ) -> dict[str, Any]:
        found = {}
        for name, (field, parse) in table.items():
            value = self._one(name, parse, protecting=protecting)
            if value is not None:
                found[field] = value
        return found

    def _protocol(self) -> str:
        known = _among("HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS")
        protocol = self._one("backend-protocol", lambda value: known(value.upper())) or "HTTP"
        version = self._one("proxy-http-version", _among("1.1", "1.0"))
        if version == "1.0":
            self._tell(f"{PREFIX}proxy-http-version: only 1.1 is spoken to backends")
        return "HTTP" if protocol == "AUTO_HTTP" else str(protocol)

    def _redirect(self) -> Redirect | None:
        code = self._one("permanent-redirect-code", _number(300, 308)) or 301
        target = self._one("permanent-redirect", _url)
        if target is not None:
            return Redirect(code, target)
        code = self._one("temporal-redirect-code", _number(300, 308)) or 302
        target = self._one("temporal-redirect", _url)
        return Redirect(code, target) if target is not None else None

    def _affinity(self) -> Affinity | None:
        options = self._read(_AFFINITY)
        if self._one("affinity-mode", _among("balanced", "persistent")) == "balanced":
            self._tell(f"{PREFIX}affinity-mode: sessions stay where they are while their endpoint lives (persistent)")
        return Affinity(**options) if self._one("affinity", _among("cookie")) else None

    def _basic_auth(self) -> BasicAuth | None:
        if "auth-type" not in self._wanted:
            if "auth-secret" in self._wanted:
                self._tell(f"{PREFIX}auth-secret: needs auth-type", protecting=True)
            return None
        kind = self._one("auth-type", _among("basic"), protecting=True)
        secret = self._one("auth-secret", self._secret, protecting=True)
        sort = self._one("auth-secret-type", _among("auth-file", "auth-map"), protecting=True)
        realm = self._one("auth-realm", _plain) or REALM
        if "auth-secret" not in self._wanted:
            self._tell(f"{PREFIX}auth-type: needs auth-secret", protecting=True)
        return BasicAuth(secret, realm, sort == "auth-map") if kind and secret else None

    def _secret(self, value: str) -> str:
        space, _, name = value.rpartition("/")
        if names.dns1123_subdomain(name) or (space and names.dns1123_label(space)):
            raise _Bad("must be the name of a Secret")
        if space not in ("", self._namespace):
            raise _Bad("must be a Secret of the same namespace")
        return f"{self._namespace}/{name}"

    def _cors(self) -> Cors | None:
        options = self._read(_CORS)
        return Cors(**options) if self._one("enable-cors", _flag) else None

    def _unknown(self) -> None:
        known = {*_PLAIN, *_PROTECTING, *_AFFINITY, *_CORS, *_JOINED}
        for name in sorted(set(self._wanted) - known):
            if name.startswith("canary-"):
                continue  # told with canary itself
            self._tell(f"{PREFIX}{name}: is not supported", protecting=name.startswith(_GUARDS))
