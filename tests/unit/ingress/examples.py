"""One cluster's Ingresses with all that can be asked for, for golden files and the real nginx."""

from __future__ import annotations

from pathlib import Path

from orca.ingress.host import Host
from orca.ingress.model import Certificate, Routing, Users
from tests.unit.ingress.objects import backend, endpoint, ingress, path, piece, routed, service, world

HOST = Host(Path("/run/orca-ingress"), (Path("/orca"), Path("/usr/share/lua/5.1")), resolvers=("10.96.0.10",))


def everything(pem: bytes = b"") -> Routing:
    """``pem`` is the pair of the hosts with TLS."""
    around = world(
        service(),
        service("admin", ports=[{"name": "http", "port": 80}, {"name": "tls", "port": 443}]),
        service("far", type="ExternalName", externalName="far.test"),
        pieces=[
            piece(endpoint("10.244.1.5"), endpoint("10.244.2.6")),
            piece(endpoint("10.244.1.7"), of="admin"),
            piece(endpoint("10.244.1.7"), of="admin", port="tls", number=8443),
        ],
        certificates={"shop/pair": Certificate("pair.pem", pem, ("a.test", "*.w.test"))},
        users={"shop/who": Users("users", b"a:b\n")},
    )
    cors = {"enable-cors": "true", "cors-allow-origin": "https://*.b.test, http://c.test"}
    guard = {"auth-type": "basic", "auth-secret": "who", "auth-realm": "Who's there?", "limit-rps": "5"}
    sticky = {"affinity": "cookie", "session-cookie-max-age": "60", "session-cookie-samesite": "Lax"}
    secure = {"backend-protocol": "HTTPS", "proxy-body-size": "0", "proxy-read-timeout": "3600"}
    return routed(
        ingress(name="fallback", defaultBackend=backend()),
        ingress(
            path("/"),
            path("/x y", "Exact"),
            path("/any", "ImplementationSpecific"),
            name="site",
            tls=[{"hosts": ["a.test"], "secretName": "pair"}],
            ask={"app-root": "/start", "server-alias": "www.a.test"},
        ),
        ingress(path("/api(/|$)(.*)", "ImplementationSpecific"), name="api", ask={"rewrite-target": "/$2", **cors}),
        ingress(path("/plain"), name="plain", ask={"rewrite-target": "/", "x-forwarded-prefix": "/plain"}),
        ingress(path("/", to=backend("admin", "tls")), name="admin", host="admin.test", ask={**guard, **secure}),
        ingress(
            path("/"), name="wild", host="*.w.test", ask=sticky, tls=[{"hosts": ["*.w.test"], "secretName": "pair"}]
        ),
        ingress(path("/", to=backend("far")), name="far", host="far.test", ask={"upstream-vhost": "far.test"}),
        ingress(
            path("/"), name="rpc", host="rpc.test", ask={"backend-protocol": "GRPC", "whitelist-source-range": "::/0"}
        ),
        ingress(path("/"), name="moved", host="old.test", ask={"permanent-redirect": "https://a.test$request_uri"}),
        ingress(path("/"), name="shut", host="shut.test", ask={"auth-url": "http://x"}),
        around=around,
    )
