"""Locations: what nginx does with the requests for a path of a server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orca.ingress.model import External, Location, Match, Server, Users
from orca.ingress.page import Page
from orca.ingress.quoting import literal, quoted, template
from orca.ingress.settings import CAPTURES, REDIRECT_VARIABLES, Cors, Settings

_ACME = "/.well-known/acme-challenge"
"""Certificate authorities ask here, by plain HTTP: never redirected to HTTPS, as in ingress-nginx."""


@dataclass(frozen=True, slots=True)
class Locations:
    """Writes locations on a page."""

    page: Page
    users: Mapping[str, Users]
    """Of Secrets with passwords, as in `Routing`."""
    user_files: Path
    """Where their files are."""
    origins: Mapping[Cors, int]
    """The number in the names of the variables that `nginx` makes for each set of rules for other origins."""

    def write(self, location: Location, server: Server) -> None:
        """The block of one location. Raises `Unquotable`."""
        page = self.page
        modifier = (location.match.value,) if location.match.value else ()
        page.open("location", *modifier, quoted(location.path))
        settings, backend = location.settings, location.backend
        page("set", "$orca_ingress", literal(location.ingress))
        page("set", "$orca_pool", literal(backend) if isinstance(backend, str) else '""')
        if settings.denied:
            page("return", "503")
        elif settings.redirect is not None:
            page("return", str(settings.redirect.code), template(settings.redirect.target, REDIRECT_VARIABLES))
        elif backend is None:
            self._to_https(location, server)
            page("return", str(location.status))
        else:
            self._serve(location, backend, server)
        page.close()

    def _to_https(self, location: Location, server: Server) -> None:
        page = self.page
        settings = location.settings
        if not (settings.force_ssl_redirect or (server.tls and settings.ssl_redirect and location.ingress)):
            return
        if location.match in (Match.EXACT, Match.START) and location.path.startswith(_ACME):
            return
        page.open("if", "($orca_scheme", "=", "http)")
        page("return", "308", "https://$host$request_uri")
        page.close()

    def _serve(self, location: Location, backend: str | External, server: Server) -> None:
        page = self.page
        settings = location.settings
        page("set", "$orca_host", literal(settings.upstream_vhost) if settings.upstream_vhost else "$orca_http_host")
        page("set", "$orca_prefix", literal(settings.forwarded_prefix))
        if isinstance(backend, External):
            page("set", "$orca_target", literal(f"{backend.host}:{backend.port}"))
        elif settings.affinity is not None:
            self._affinity(location)
        else:
            page("set", "$orca_cookie", '""')
        self._to_https(location, server)
        if settings.app_root:
            page.open("if", "($uri", "=", "/)")
            page("return", "302", literal(settings.app_root))
            page.close()
        if settings.cors is not None:
            self._cors(settings.cors)
        self._protection(location)
        if not settings.access_log:
            page("access_log", "off")
        page("client_max_body_size", settings.body_size)
        if isinstance(backend, str):
            page.lua("rewrite_by_lua_block", "admit()")
        page.lua("log_by_lua_block", "count()")
        if settings.rewrite_target and location.rewrite:
            # Last: nothing of nginx's own rewriting is looked at after it.
            modifier = "(?i)" if location.match is Match.REGEX_ANY_CASE else ""
            page("rewrite", quoted(modifier + location.rewrite), template(settings.rewrite_target, CAPTURES), "break")
        self._pass(settings, backend)

    def _affinity(self, location: Location) -> None:
        page = self.page
        wish = location.settings.affinity
        assert wish is not None
        plain = location.match in (Match.EXACT, Match.START)
        options = f"; Path={wish.path or (location.path if plain and ';' not in location.path else '/')}"
        if wish.max_age >= 0:
            options += f"; Max-Age={wish.max_age}"
        if wish.same_site:
            options += f"; SameSite={wish.same_site}"
        page("set", "$orca_cookie", literal(wish.cookie))
        page("set", "$orca_cookie_options", literal(options + "; HttpOnly"))
        secure = {None: "$https", True: "on", False: '""'}[wish.secure]
        page("set", "$orca_cookie_secure", secure)
        page("set", "$orca_cookie_moves", "1" if wish.change_on_failure else '""')
        page.lua("header_filter_by_lua_block", "remember()")

    def _cors(self, rules: Cors) -> None:
        page, number = self.page, self.origins[rules]
        headers = [("Access-Control-Allow-Origin", f"$orca_origin_{number}")]
        if rules.credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        if rules.expose:
            headers.append(("Access-Control-Expose-Headers", literal(rules.expose)))
        before = [
            *headers,
            ("Access-Control-Allow-Methods", literal(rules.methods)),
            ("Access-Control-Allow-Headers", literal(rules.headers)),
            ("Access-Control-Max-Age", str(rules.max_age)),
        ]
        page.open("if", f"($orca_preflight_{number})")
        for name, value in before:
            page("add_header", name, value, "always")
        page("return", "204")
        page.close()
        for name, value in headers:
            page("add_header", name, value, "always")

    def _protection(self, location: Location) -> None:
        page = self.page
        settings = location.settings
        for network in settings.deny:
            page("deny", quoted(network))
        if settings.allow:
            for network in settings.allow:
                page("allow", quoted(network))
            page("deny", "all")
        if settings.basic_auth is not None:
            users = self.users[settings.basic_auth.secret]
            page("auth_basic", literal(settings.basic_auth.realm))
            page("auth_basic_user_file", quoted(str(self.user_files / users.file)))
        zone = zone_prefix(location.ingress)
        burst = settings.burst_multiplier
        if settings.requests_per_second:
            page("limit_req", f"zone={zone}s", f"burst={settings.requests_per_second * burst}", "nodelay")
        if settings.requests_per_minute:
            page("limit_req", f"zone={zone}m", f"burst={settings.requests_per_minute * burst}", "nodelay")
        if settings.connections:
            page("limit_conn", f"{zone}c", str(settings.connections))

    def _pass(self, settings: Settings, backend: str | External) -> None:
        page = self.page
        grpc = settings.protocol.startswith("GRPC")
        secure = settings.protocol.endswith("S")
        kind = "grpc" if grpc else "proxy"
        page(f"{kind}_connect_timeout", f"{settings.connect_timeout}s")
        page(f"{kind}_send_timeout", f"{settings.send_timeout}s")
        page(f"{kind}_read_timeout", f"{settings.read_timeout}s")
        page(f"{kind}_buffer_size", settings.buffer_size)
        if not grpc:
            page("proxy_buffering", "on" if settings.buffering else "off")
            page("proxy_buffers", "4", settings.buffer_size)
            page("proxy_busy_buffers_size", _twice(settings.buffer_size))
            page("proxy_max_temp_file_size", "1024m")
            page("proxy_request_buffering", "on" if settings.request_buffering else "off")
        page(f"{kind}_next_upstream", settings.next_upstream)
        page(f"{kind}_next_upstream_tries", str(settings.next_tries))
        page(f"{kind}_next_upstream_timeout", f"{settings.next_timeout}s")
        scheme = ("grpc" if grpc else "http") + ("s" if secure else "")
        if isinstance(backend, External):
            if secure:
                page(f"{kind}_ssl_server_name", "on")
                page(f"{kind}_ssl_name", literal(backend.host))
            page(f"{kind}_pass", f"{scheme}://$orca_target")
        else:
            page(f"{kind}_pass", f"{scheme}://orca_{scheme}_$orca_use")


def zone_prefix(ingress: str) -> str:
    """What the names of an Ingress's zones of limits begin with. A zone is known by its name across reloads."""
    return f"limit_{hashlib.sha256(ingress.encode()).hexdigest()[:12]}_"


def _twice(size: str) -> str:
    return f"{2 * int(size[:-1])}{size[-1]}"
