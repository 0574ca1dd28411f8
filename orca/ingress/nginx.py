"""The configuration of nginx as text.

Everything that comes from the API goes through `orca.ingress.quoting`. What changes by itself, endpoints and
certificates, is not in here: ``balancer.lua`` keeps it, so that a rolling Deployment reloads nothing.
"""

from __future__ import annotations

from orca.ingress.host import Host
from orca.ingress.locations import Locations, zone_prefix
from orca.ingress.model import Routing, Server
from orca.ingress.page import GENERATION, Page, Rendered, lua_string
from orca.ingress.quoting import DOLLAR, Unquotable, quoted
from orca.ingress.settings import Cors, Settings

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


def render(routing: Routing, host: Host) -> Rendered:
    """The whole configuration. Raises `Unquotable` for text that `routing` should have kept out."""
    page = Page()
    _process(page, host)
    page.open("http")
    _common(page, routing, host)
    _control(page, host)
    locations = Locations(page, routing.users, host.state / "users", _maps(page, routing))
    for server in routing.servers:
        _server(page, server, host, locations)
    page.close()
    return page.finished()


def _process(page: Page, host: Host) -> None:
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


def _common(page: Page, routing: Routing, host: Host) -> None:
    page("lua_package_path", quoted(";".join(f"{path}/?.lua" for path in host.lua) + ";;"))
    page("lua_shared_dict", "orca_live", host.live_memory)
    page("lua_shared_dict", "orca_counts", "2m")
    page.lua("init_by_lua_block", f'load({lua_string(str(host.live))}, "{GENERATION}")')
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


def _forwarding(page: Page, host: Host) -> None:
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


def _map(page: Page, source: str, variable: str, cases: dict[str, str]) -> None:
    page.open("map", source, variable)
    for case, value in cases.items():
        page(case, value)
    page.close()


def _control(page: Page, host: Host) -> None:
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
    page("return", "200", GENERATION)
    page.close()
    page.close()


def _maps(page: Page, routing: Routing) -> dict[Cors, int]:
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
                f"zone={zone_prefix(ingress)}s:5m",
                f"rate={settings.requests_per_second}r/s",
            )
        if settings.requests_per_minute:
            page(
                "limit_req_zone",
                "$binary_remote_addr",
                f"zone={zone_prefix(ingress)}m:5m",
                f"rate={settings.requests_per_minute}r/m",
            )
        if settings.connections:
            page("limit_conn_zone", "$binary_remote_addr", f"zone={zone_prefix(ingress)}c:5m")
    return cors


def _origin_pattern(origin: str) -> str:
    if origin == "*":
        return "~."
    escaped = origin.replace(".", "\\.").replace("*", "[A-Za-z0-9-]+")
    return f"~*^{escaped}$"


def _server(page: Page, server: Server, host: Host, locations: Locations) -> None:
    default = " default_server" if not server.name else ""
    page.open("server")
    addresses = ("", "[::]:") if host.ipv6 else ("",)
    for address in addresses:
        page(f"listen {address}{host.http_port}{default}")
        page(f"listen {address}{host.https_port}{default} ssl http2")
    page("server_name", *(_server_name(name) for name in (server.name, *server.aliases)))
    page.lua("ssl_certificate_by_lua_block", f"certify({lua_string(server.name)})")
    for location in server.locations:
        page.owner = location.ingress
        try:
            locations.write(location, server)
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


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
