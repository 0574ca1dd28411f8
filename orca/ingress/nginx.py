"""The configuration of nginx as text.

Everything that comes from the API goes through `orca.ingress.quoting`. What changes by itself, endpoints and
certificates, is not in here: ``balancer.lua`` keeps it, so that a rolling Deployment reloads nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from orca.ingress.model import External, Location, Match, Routing, Server
from orca.ingress.quoting import DOLLAR, Unquotable, literal, quoted, template
from orca.ingress.settings import CAPTURES, REDIRECT_VARIABLES, Cors, Settings

_ACME = "/.well-known/acme-challenge"
"""Certificate authorities ask here, by plain HTTP: never redirected to HTTPS, as in ingress-nginx."""
_GENERATION = "@generation@"
_UPSTREAMS = ("http", "https", "grpc", "grpcs")
_LOG_FORMAT = (
    '\'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" $request_length $request_time [$orca_ingress] [$orca_pool] $upstream_addr '
    "$upstream_response_length $upstream_response_time $upstream_status $orca_request_id'"
)
_HEADERS = (
    ("Host", "$orca_host"),
    ("Upgrade", "$http_upgrade"),
    ("Connection", "$orca_connection"),
    ("X-Request-ID", "$orca_request_id"),
    ("X-Real-IP", "$remote_addr"),
    ("X-Forwarded-For", "$orca_forwarded_for"),
    ("X-Forwarded-Host", "$orca_http_host"),
    ("X-Forwarded-Port", "$orca_port"),
    ("X-Forwarded-Proto", "$orca_scheme"),
    ("X-Forwarded-Scheme", "$orca_scheme"),
    ("X-Scheme", "$orca_scheme"),
    ("X-Forwarded-Prefix", "$orca_prefix"),
    ("X-Original-Forwarded-For", "$http_x_forwarded_for"),
    ("Proxy", '""'),
)
_GRPC_HEADERS = tuple(pair for pair in _HEADERS if pair[0] not in ("Upgrade", "Connection"))


@dataclass(frozen=True, slots=True)
class Host:
    """Of the process and its surroundings, not of the cluster."""

    state: Path
    """Directory of sockets, certificates and temporary files."""
    lua: tuple[Path, ...]
    """Directories with Lua modules: ours, and those of Debian's packages."""
    modules: Path = Path("/usr/lib/nginx/modules")
    http_port: int = 8080
    https_port: int = 8443
    user: str = ""
    """Whom workers run as; "" where nginx is started by somebody without rights."""
    workers: str = "auto"
    connections: int = 16384
    files: int = 0
    """Limit of open files for workers; 0 leaves it."""
    ipv6: bool = False
    resolvers: tuple[str, ...] = ()
    """Name servers for Services of type ExternalName."""
    trusted: tuple[str, ...] = ()
    """Networks of load balancers whose ``X-Forwarded-*`` are believed."""
    drain_seconds: int = 240
    """How long connections of a former configuration may go on."""
    live_memory: str = "16m"

    @property
    def control(self) -> Path:
        return self.state / "control.sock"

    @property
    def live(self) -> Path:
        """What changes without a reload, for an nginx that starts."""
        return self.state / "live"

    def certificate(self, file: str) -> Path:
        return self.state / "certificates" / (file or "default.pem")


@dataclass(frozen=True, slots=True)
class Rendered:
    """``owners`` has for each line the Ingress that it comes from, or ""."""

    text: str
    owners: tuple[str, ...]
    generation: str
    """A digest of the text, which the running nginx tells."""

    def culprit(self, line: int) -> str:
        """Whose line it is, counted from 1."""
        return self.owners[line - 1] if 0 < line <= len(self.owners) else ""


class _Page:
    """Lines with indentation; ``owner`` is noted beside each."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._owners: list[str] = []
        self._depth = 0
        self.owner = ""

    def __call__(self, *directive: str) -> None:
        self._put(" ".join(directive) + ";")

    def lua(self, directive: str, call: str) -> None:
        """A call of a function of ``balancer.lua``."""
        self._put(f'{directive} {{ require("balancer").{call} }}')

    def comment(self, text: str) -> None:
        self._put(f"# {text}")

    def open(self, *block: str) -> None:
        self._put(" ".join((*block, "{")))
        self._depth += 1

    def close(self) -> None:
        self._depth -= 1
        self._put("}")

    def _put(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)
        self._owners.append(self.owner)

    def finished(self) -> Rendered:
        text = "\n".join(self._lines) + "\n"
        generation = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Rendered(text.replace(_GENERATION, generation), tuple(self._owners), generation)


def render(routing: Routing, host: Host) -> Rendered:
    """The whole configuration. Raises `Unquotable` for text that `routing` should have kept out."""
    page = _Page()
    _process(page, host)
    page.open("http")
    _common(page, routing, host)
    _control(page, host)
    cors = _maps(page, routing)
    for server in routing.servers:
        _server(page, server, routing, host, cors)
    page.close()
    return page.finished()


def _process(page: _Page, host: Host) -> None:
    for module in ("ndk_http_module", "ngx_http_lua_module"):
        page("load_module", quoted(str(host.modules / f"{module}.so")))
    if host.user:
        page("user", host.user)
    page("daemon", "off")
    page("pid", quoted(str(host.state / "nginx.pid")))
    page("error_log", "stderr", "notice")
    page("worker_processes", host.workers)
    page("worker_shutdown_timeout", f"{host.drain_seconds}s")
    page("pcre_jit", "on")
    if host.files:
        page("worker_rlimit_nofile", str(host.files))
    page.open("events")
    page("worker_connections", str(host.connections))
    page("multi_accept", "on")
    page.close()


def _common(page: _Page, routing: Routing, host: Host) -> None:
    page("lua_package_path", quoted(";".join(f"{path}/?.lua" for path in host.lua) + ";;"))
    page("lua_shared_dict", "orca_live", host.live_memory)
    page("lua_shared_dict", "orca_counts", "2m")
    page.lua("init_by_lua_block", f'load({_lua_string(str(host.live))}, "{_GENERATION}")')
    page.lua("header_filter_by_lua_block", "finish()")
    page.lua("init_worker_by_lua_block", "begin()")
    page("log_format", "orca", _LOG_FORMAT)
    page("access_log", "/dev/stdout", "orca")
    page("default_type", "text/html")
    page("server_tokens", "off")
    page("sendfile", "on")
    page("keepalive_timeout", "75s")
    page("keepalive_requests", "10000")
    page("reset_timedout_connection", "on")
    page("client_header_buffer_size", "1k")
    page("large_client_header_buffers", "4", "8k")
    page("underscores_in_headers", "off")
    page("absolute_redirect", "off")
    page("http2_max_concurrent_streams", "128")
    page("limit_req_status", "503")
    page("limit_conn_status", "503")
    page("server_names_hash_max_size", str(_power_of_two(max(1024, 2 * len(routing.servers)))))
    longest = max((len(name) for server in routing.servers for name in (server.name, *server.aliases)), default=0)
    page("server_names_hash_bucket_size", str(_power_of_two(max(64, longest + 32))))
    page("variables_hash_max_size", "2048")
    page("map_hash_bucket_size", "256")
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        page(f"{kind}_temp_path", quoted(str(host.state / "temporary" / kind)))
    if host.resolvers:
        page("resolver", *map(quoted, host.resolvers), "valid=30s", *(() if host.ipv6 else ("ipv6=off",)))
    own_pair = quoted(str(host.certificate("")))
    page("ssl_certificate", own_pair)
    page("ssl_certificate_key", own_pair)
    page("ssl_protocols", "TLSv1.2", "TLSv1.3")
    page("ssl_session_cache", "shared:orca_tls:10m")
    page("ssl_session_timeout", "10m")
    page("ssl_prefer_server_ciphers", "on")
    page("ssl_ciphers", "HIGH:!aNULL:!MD5:!3DES:!kRSA:!PSK:!SRP:!CAMELLIA:!ARIA:!SHA1:!SHA256:!SHA384")
    page("proxy_http_version", "1.1")
    page("proxy_cookie_domain", "off")
    page("proxy_cookie_path", "off")
    page("proxy_redirect", "off")
    for name, value in _HEADERS:
        page("proxy_set_header", name, value)
    for name, value in _GRPC_HEADERS:
        page("grpc_set_header", name, value)
    _forwarding(page, host)
    for kind in _UPSTREAMS:
        # What must not be sent twice never goes over a connection that the endpoint may just be closing.
        for use in ("reused", "fresh"):
            page.open("upstream", f"orca_{kind}_{use}")
            page("server", "0.0.0.1")
            page.lua("balancer_by_lua_block", "balance()")
            if use == "reused":
                page("keepalive", "320")
                page("keepalive_timeout", "60s")
                page("keepalive_requests", "10000")
            page.close()


def _forwarding(page: _Page, host: Host) -> None:
    page.open("geo", f"${DOLLAR}")
    page("default", '"$"')
    page.close()
    for variable in ("ingress", "pool", "host", "prefix", "cookie"):
        # Locations set these; there may be none, and some requests end before they come to one.
        _map(page, "$host", f"$orca_{variable}", {"default": '""'})
    trusted = bool(host.trusted)
    if trusted:
        for network in host.trusted:
            page("set_real_ip_from", quoted(network))
        page("real_ip_header", "X-Forwarded-For")
        page("real_ip_recursive", "on")
        page.open("geo", "$realip_remote_addr", "$orca_trusted")
        page("default", "0")
        for network in host.trusted:
            page(quoted(network), "1")
        page.close()
    _map(page, "$http_host", "$orca_http_host", {"default": "$http_host", '""': "$host"})
    _map(page, "$http_upgrade", "$orca_connection", {"default": "upgrade", '""': '""'})
    _map(page, "$http_x_request_id", "$orca_request_id", {"default": "$http_x_request_id", '""': "$request_id"})
    _map(
        page, "$request_method", "$orca_use", {"default": "reused", "POST": "fresh", "PATCH": "fresh", "LOCK": "fresh"}
    )
    own = {"default": "80", "https": "443"}
    if trusted:
        said = '"$orca_trusted:$http_x_forwarded_proto"'
        _map(page, said, "$orca_scheme", {"default": "$scheme", '"1:https"': "https", '"1:http"': "http"})
        _map(page, "$orca_scheme", "$orca_own_port", own)
        said = '"$orca_trusted:$http_x_forwarded_port"'
        _map(page, said, "$orca_port", {"default": "$orca_own_port", '"~^1:([0-9]{1,5})$"': "$1"})
        _map(
            page, "$orca_trusted", "$orca_forwarded_for", {"default": "$remote_addr", "1": "$proxy_add_x_forwarded_for"}
        )
    else:
        _map(page, "$scheme", "$orca_scheme", {"default": "$scheme"})
        _map(page, "$scheme", "$orca_port", own)
        _map(page, "$remote_addr", "$orca_forwarded_for", {"default": "$remote_addr"})


def _map(page: _Page, source: str, variable: str, cases: dict[str, str]) -> None:
    page.open("map", source, variable)
    for case, value in cases.items():
        page(case, value)
    page.close()


def _control(page: _Page, host: Host) -> None:
    """What this controller alone may ask: its socket is in a directory of its own."""
    page.open("server")
    page("listen", quoted(f"unix:{host.control}"))
    page("access_log", "off")
    page("client_max_body_size", "256m")
    page("client_body_buffer_size", "1m")
    page.open("location", "=", "/live")
    page.lua("content_by_lua_block", "change()")
    page.close()
    page.open("location", "=", "/leave")
    page.lua("content_by_lua_block", "leave()")
    page.close()
    page.open("location", "=", "/counts")
    page.lua("content_by_lua_block", "counts()")
    page.close()
    page.open("location", "=", "/status")
    page("stub_status")
    page.close()
    page.open("location", "=", "/generation")
    page("return", "200", _GENERATION)
    page.close()
    page.close()


def _maps(page: _Page, routing: Routing) -> dict[Cors, int]:
    """Maps and zones that locations refer to; the number of each set of rules for other origins."""
    cors: dict[Cors, int] = {}
    limited: dict[str, Settings] = {}
    for server in routing.servers:
        for location in server.locations:
            settings = location.settings
            if settings.cors is not None:
                cors.setdefault(settings.cors, len(cors))
            if settings.requests_per_second or settings.requests_per_minute or settings.connections:
                limited[location.ingress] = settings
    for rules, number in cors.items():
        page.open("map", "$http_origin", f"$orca_origin_{number}")
        page("default", '""')
        for origin in rules.origins:
            page(quoted(_origin_pattern(origin)), '"*"' if origin == "*" else "$http_origin")
        page.close()
        page.open("map", f'"$request_method:$orca_origin_{number}"', f"$orca_preflight_{number}")
        page("default", '""')
        page('"~^OPTIONS:."', "1")
        page.close()
    for ingress, settings in limited.items():
        if settings.requests_per_second:
            page(
                "limit_req_zone",
                "$binary_remote_addr",
                f"zone={_zone(ingress)}s:5m",
                f"rate={settings.requests_per_second}r/s",
            )
        if settings.requests_per_minute:
            page(
                "limit_req_zone",
                "$binary_remote_addr",
                f"zone={_zone(ingress)}m:5m",
                f"rate={settings.requests_per_minute}r/m",
            )
        if settings.connections:
            page("limit_conn_zone", "$binary_remote_addr", f"zone={_zone(ingress)}c:5m")
    return cors


def _zone(ingress: str) -> str:
    """A zone is known by its name across reloads."""
    return f"limit_{hashlib.sha256(ingress.encode()).hexdigest()[:12]}_"


def _origin_pattern(origin: str) -> str:
    if origin == "*":
        return "~."
    escaped = origin.replace(".", "\\.").replace("*", "[A-Za-z0-9-]+")
    return f"~*^{escaped}$"


def _server(page: _Page, server: Server, routing: Routing, host: Host, cors: dict[Cors, int]) -> None:
    default = " default_server" if not server.name else ""
    page.open("server")
    addresses = ("", "[::]:") if host.ipv6 else ("",)
    for address in addresses:
        page(f"listen {address}{host.http_port}{default}")
        page(f"listen {address}{host.https_port}{default} ssl http2")
    page("server_name", *(_server_name(name) for name in (server.name, *server.aliases)))
    page.lua("ssl_certificate_by_lua_block", f"certify({_lua_string(server.name)})")
    for location in server.locations:
        page.owner = location.ingress
        try:
            _location(page, location, server, routing, host, cors)
        except Unquotable as error:
            error.owner = location.ingress
            raise
        page.owner = ""
    page.close()


def _server_name(name: str) -> str:
    if not name:
        return "_"
    if name.startswith("*."):
        # One label: nginx's own "*." would take any number of them.
        return quoted("~^[^.]+" + name[1:].replace(".", "\\.") + "$")
    return quoted(name)


def _location(
    page: _Page, location: Location, server: Server, routing: Routing, host: Host, cors: dict[Cors, int]
) -> None:
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
        _to_https(page, location, server)
        page("return", str(location.status))
    else:
        _serve(page, location, backend, server, routing, host, cors)
    page.close()


def _to_https(page: _Page, location: Location, server: Server) -> None:
    settings = location.settings
    if not (settings.force_ssl_redirect or (server.tls and settings.ssl_redirect and location.ingress)):
        return
    if location.match in (Match.EXACT, Match.START) and location.path.startswith(_ACME):
        return
    page.open("if", "($orca_scheme", "=", "http)")
    page("return", "308", "https://$host$request_uri")
    page.close()


def _serve(
    page: _Page,
    location: Location,
    backend: str | External,
    server: Server,
    routing: Routing,
    host: Host,
    cors: dict[Cors, int],
) -> None:
    settings = location.settings
    page("set", "$orca_host", literal(settings.upstream_vhost) if settings.upstream_vhost else "$orca_http_host")
    page("set", "$orca_prefix", literal(settings.forwarded_prefix))
    if isinstance(backend, External):
        page("set", "$orca_target", literal(f"{backend.host}:{backend.port}"))
    elif settings.affinity is not None:
        _affinity(page, location)
    else:
        page("set", "$orca_cookie", '""')
    _to_https(page, location, server)
    if settings.app_root:
        page.open("if", "($uri", "=", "/)")
        page("return", "302", literal(settings.app_root))
        page.close()
    if settings.cors is not None:
        _cors(page, settings.cors, cors[settings.cors])
    _protection(page, location, routing, host)
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
    _pass(page, settings, backend)


def _affinity(page: _Page, location: Location) -> None:
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


def _cors(page: _Page, rules: Cors, number: int) -> None:
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


def _protection(page: _Page, location: Location, routing: Routing, host: Host) -> None:
    settings = location.settings
    for network in settings.deny:
        page("deny", quoted(network))
    if settings.allow:
        for network in settings.allow:
            page("allow", quoted(network))
        page("deny", "all")
    if settings.basic_auth is not None:
        users = routing.users[settings.basic_auth.secret]
        page("auth_basic", literal(settings.basic_auth.realm))
        page("auth_basic_user_file", quoted(str(host.state / "users" / users.file)))
    zone = _zone(location.ingress)
    burst = settings.burst_multiplier
    if settings.requests_per_second:
        page("limit_req", f"zone={zone}s", f"burst={settings.requests_per_second * burst}", "nodelay")
    if settings.requests_per_minute:
        page("limit_req", f"zone={zone}m", f"burst={settings.requests_per_minute * burst}", "nodelay")
    if settings.connections:
        page("limit_conn", f"{zone}c", str(settings.connections))


def _pass(page: _Page, settings: Settings, backend: str | External) -> None:
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


def _twice(size: str) -> str:
    return f"{2 * int(size[:-1])}{size[-1]}"


def _lua_string(text: str) -> str:
    """A string of Lua; nginx reads the text of a ``_block`` as Lua's lexer would."""
    return '"' + "".join(char if char.isalnum() or char in "/._-" else f"\\{ord(char):03d}" for char in text) + '"'


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
