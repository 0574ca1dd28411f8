"""Which Ingress serves what."""

from __future__ import annotations

import pytest

from orca.ingress.classes import ours
from orca.ingress.model import Certificate, External, Match, Users
from orca.ingress.routing import renewed, route
from tests.unit.ingress.objects import (
    CLASS,
    OURS,
    answers,
    backend,
    endpoint,
    ingress,
    locations,
    path,
    piece,
    routed,
    service,
    world,
)


def reasons(routing: object) -> list[tuple[str, str]]:
    return [(one.ingress, one.reason) for one in routing.problems]  # type: ignore[attr-defined]


# Whose: the table of the Ingress documentation ("Examples" under path types), and ingress-nginx's default backend.
@pytest.mark.parametrize(
    ("kind", "text", "request_path", "matches"),
    [
        ("Prefix", "/", "/anything", True),
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/bar", False),
        ("Exact", "/foo", "/foo/", False),
        ("Exact", "/foo/", "/foo", False),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/foo/", "/foo/", True),
        ("Prefix", "/aaa/bb", "/aaa/bbb", False),
        ("Prefix", "/aaa/bbb", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb/", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", False),
        ("ImplementationSpecific", "/foo", "/foobar", True),
        ("ImplementationSpecific", "", "/any", True),
        ("Exact", "/sp%20ace", "/sp ace", True),
    ],
)
def test_paths_match_as_documented(kind: str, text: str, request_path: str, matches: bool) -> None:
    routing = routed(ingress(path(text, kind)))
    assert answers(routing, "a.test", request_path) == ("shop/site" if matches else "404")


def test_the_longest_prefix_wins_and_exact_before_all() -> None:
    routing = routed(
        ingress(path("/"), name="root"),
        ingress(path("/aaa"), name="short"),
        ingress(path("/aaa/bbb"), name="long"),
        ingress(path("/aaa/bbb", "Exact"), name="exact"),
    )
    asked = ["/", "/aaa/x", "/aaa/bbb/x", "/aaa/bbb", "/aaax"]
    assert [answers(routing, "a.test", one) for one in asked] == [
        "shop/root",
        "shop/short",
        "shop/long",
        "shop/exact",
        "shop/root",
    ]
    assert routing.problems == ()


def test_the_oldest_keeps_a_path_and_the_younger_is_told() -> None:
    routing = routed(ingress(path("/x"), name="young"), ingress(path("/x"), name="old", age=10))
    assert answers(routing, "a.test", "/x/y") == "shop/old"
    assert reasons(routing) == [("shop/young", "Conflict")]
    assert "shop/old" in routing.problems[0].message


def test_of_the_same_age_the_name_decides() -> None:
    routing = routed(ingress(path("/x"), name="b"), ingress(path("/x"), name="a"))
    assert answers(routing, "a.test", "/x") == "shop/a"


def test_expressions_come_before_prefixes_and_after_exact_paths() -> None:
    ask = {"use-regex": "true"}
    routing = routed(
        ingress(path("/shop"), name="prefix"),
        ingress(path("/shop/[0-9]+$", "ImplementationSpecific"), name="regex", ask=ask),
        ingress(path("/shop/7", "Exact"), name="exact"),
    )
    asked = ["/shop/12", "/SHOP/12", "/shop/7", "/shop/x"]
    assert [answers(routing, "a.test", one) for one in asked] == [
        "shop/regex",
        "shop/regex",
        "shop/exact",
        "shop/prefix",
    ]


def test_a_plain_prefix_with_a_rewrite_stays_a_prefix() -> None:
    routing = routed(ingress(path("/api"), ask={"rewrite-target": "/"}))
    assert [answers(routing, "a.test", one) for one in ("/api", "/api/x", "/apix", "/API")] == [
        "shop/site",
        "shop/site",
        "404",
        "404",
    ]


def test_groups_with_names_are_refused() -> None:
    """They would become variables of nginx, such as the one that says where a request goes."""
    for text in ("/(?<orca_pool>.*)", "/(?P<orca_pool>.*)", "/(?'orca_pool'.*)"):
        routing = routed(ingress(path(text, "ImplementationSpecific"), ask={"use-regex": "true"}))
        assert reasons(routing) == [("shop/site", "Rejected")]
        assert answers(routing, "a.test", "/other") == "404"
    fine = routed(ingress(path("/x(?=y)(?<!z)", "ImplementationSpecific"), ask={"use-regex": "true"}))
    assert fine.problems == ()


def test_hosts_are_apart_and_no_host_is_all_others() -> None:
    routing = routed(
        ingress(path("/"), name="a", host="a.test"),
        ingress(path("/"), name="wild", host="*.a.test"),
        ingress(path("/only"), name="all", host=""),
    )
    assert [server.name for server in routing.servers] == ["", "*.a.test", "a.test"]
    assert answers(routing, "", "/only") == "shop/all"
    assert answers(routing, "", "/") == "404"


def test_a_default_backend_without_rules_takes_what_nobody_takes() -> None:
    routing = routed(ingress(name="fallback", defaultBackend=backend()), ingress(path("/x"), name="site"))
    assert answers(routing, "", "/any") == "shop/fallback"
    assert answers(routing, "a.test", "/other") == "404"


def test_a_default_backend_with_rules_takes_the_rest_of_its_hosts() -> None:
    routing = routed(
        ingress(path("/x", to=backend("other")), defaultBackend=backend()), around=world(service(), service("other"))
    )
    found = locations(routing)
    assert found[Match.START, "/"].backend == "shop/web:80"
    assert found[Match.START, "/x/"].backend == "shop/other:80"
    assert answers(routing, "", "/") == "404"


def test_ports_by_name_and_number() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    around = world(service(ports=ports), pieces=[piece(endpoint("10.1.1.1"), port="admin", number=9000)])
    routing = routed(ingress(path("/n", to=backend(port=81)), path("/m", to=backend(port="admin"))), around=around)
    assert {pool.name: pool.peers for pool in routing.pools.values()} == {
        "shop/web:81": ("10.1.1.1:9000",),
        "shop/web:admin": ("10.1.1.1:9000",),
    }


def test_what_is_missing_answers_503_and_is_told() -> None:
    routing = routed(
        ingress(
            path("/a", to=backend("none")),
            path("/b", to=backend(port=99)),
            path("/c", to={"resource": {"kind": "X", "name": "y"}}),
        )
    )
    assert reasons(routing) == [
        ("shop/site", "BackendMissing"),
        ("shop/site", "BackendMissing"),
        ("shop/site", "Rejected"),
    ]
    assert [one.settling for one in routing.problems] == [True, True, False]
    found = locations(routing)
    assert {found[Match.START, f"/{one}/"].backend for one in "abc"} == {None}
    assert found[Match.START, "/a/"].status == 503


def test_external_names() -> None:
    around = world(service(type="ExternalName", externalName="example.com.", ports=[{"name": "web", "port": 8443}]))
    routing = routed(ingress(path("/a", to=backend(port=80)), path("/b", to=backend(port="web"))), around=around)
    found = locations(routing)
    assert found[Match.START, "/a/"].backend == External("example.com", 80)
    assert found[Match.START, "/b/"].backend == External("example.com", 8443)
    assert routing.pools == {}


def test_endpoints_that_end_serve_only_when_no_other_does() -> None:
    ending = endpoint("10.1.1.1", ready=False, serving=True, terminating=True)
    around = world(pieces=[piece(ending, endpoint("10.1.1.2"), endpoint("10.1.1.3", ready=False, serving=False))])
    assert routed(ingress(path("/")), around=around).pools["shop/web:80"].peers == ("10.1.1.2:8080",)
    around = world(pieces=[piece(ending, endpoint("10.1.1.3", ready=False, serving=False))])
    assert routed(ingress(path("/")), around=around).pools["shop/web:80"].peers == ("10.1.1.1:8080",)


def test_a_pod_with_two_families_is_one_endpoint() -> None:
    four = {**endpoint("10.1.1.1"), "targetRef": {"uid": "p"}}
    six = {**endpoint("fd00::1"), "targetRef": {"uid": "p"}}
    both = world(pieces=[piece(six, kind="IPv6"), piece(four)])
    assert routed(ingress(path("/")), around=both).pools["shop/web:80"].peers == ("10.1.1.1:8080",)
    only = world(pieces=[piece(six, kind="IPv6")])
    assert routed(ingress(path("/")), around=only).pools["shop/web:80"].peers == ("[fd00::1]:8080",)


def test_pools_are_renewed_alone() -> None:
    pool = routed(ingress(path("/"))).pools["shop/web:80"]
    assert renewed(pool, [piece(endpoint("10.9.9.9"))]).peers == ("10.9.9.9:8080",)


def test_service_upstream_leads_to_the_cluster_address() -> None:
    routing = routed(ingress(path("/"), ask={"service-upstream": "true"}))
    assert [pool.peers for pool in routing.pools.values()] == [("10.96.0.7:80",)]


# --- classes ---------------------------------------------------------------------------------------------------------


def test_classes_of_others_are_left_alone() -> None:
    other = ingress(path("/"), name="other", ingressClassName="traefik")
    none = ingress(path("/"), name="none", ingressClassName=None)
    annotated = ingress(
        path("/"), name="old", ingressClassName=None, annotations={"kubernetes.io/ingress.class": "nginx"}
    )
    foreign = ingress(path("/"), name="gce", ingressClassName=None, annotations={"kubernetes.io/ingress.class": "gce"})
    routing = routed(other, none, annotated, foreign, ingress(path("/y"), name="mine"))
    assert routing.served == {"shop/old", "shop/mine"}
    marked = {
        **CLASS,
        "metadata": {"name": "nginx", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
    }
    assert route([none], ours([marked]), world()).served == {"shop/none"}
    strange = {"metadata": {"name": "traefik"}, "spec": {"controller": "traefik.io/ingress-controller"}}
    assert route([other], ours([CLASS, strange]), world()).served == set()


# --- TLS -------------------------------------------------------------------------------------------------------------

PAIR = Certificate("aa.pem", b"pem", ("a.test", "*.w.test"))


def tls(routing: object, host: str = "a.test") -> tuple[str, bool]:
    (server,) = [one for one in routing.servers if one.name == host]  # type: ignore[attr-defined]
    return server.certificate, server.tls


def test_certificates_by_host() -> None:
    around = world(certificates={"shop/pair": PAIR})
    listed = ingress(path("/"), tls=[{"hosts": ["a.test"], "secretName": "pair"}])
    assert tls(routed(listed, around=around)) == ("aa.pem", True)
    covered = ingress(path("/"), tls=[{"hosts": ["b.test"], "secretName": "pair"}])
    assert tls(routed(covered, around=around)) == ("aa.pem", True)
    assert tls(routed(ingress(path("/")), around=around)) == ("", False)
    nameless = ingress(path("/"), tls=[{"hosts": ["a.test"]}])
    assert tls(routed(nameless, around=around)) == ("", True)


def test_a_wildcard_is_good_for_one_label() -> None:
    assert PAIR.covers("x.w.test")
    assert PAIR.covers("*.w.test")
    assert not PAIR.covers("x.y.w.test")
    assert not PAIR.covers("w.test")


def test_unusable_secrets_leave_the_default_certificate_and_are_told() -> None:
    missing = routed(ingress(path("/"), tls=[{"hosts": ["a.test"], "secretName": "pair"}]))
    assert tls(missing) == ("", True)
    assert reasons(missing) == [("shop/site", "SecretUnusable")]
    foreign = world(certificates={"shop/pair": Certificate("b.pem", b"", ("other.test",))})
    routing = routed(ingress(path("/"), tls=[{"hosts": ["a.test"], "secretName": "pair"}]), around=foreign)
    assert tls(routing) == ("", True)
    assert "is not for 'a.test'" in routing.problems[0].message


# --- protection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        {"whitelist-source-range": "10.0.0.0/8, nonsense"},
        {"auth-type": "digest", "auth-secret": "x"},
        {"auth-type": "basic"},
        {"auth-secret": "other/secret", "auth-type": "basic"},
        {"auth-tls-secret": "default/ca"},
        {"auth-url": "http://x"},
        {"auth-type": "basic", "auth-secret": "missing"},
    ],
)
def test_protection_that_cannot_be_had_denies(ask: dict[str, str]) -> None:
    routing = routed(ingress(path("/"), ask=ask))
    assert locations(routing)[Match.START, "/"].settings.denied
    assert routing.problems
    assert "503" in " ".join(one.message for one in routing.problems)


def test_unknown_annotations_are_told_and_the_rest_is_served() -> None:
    routing = routed(ingress(path("/"), ask={"proxy-cookie-path": "/x", "proxy-read-timeout": "7"}))
    assert [(one.reason, one.message) for one in routing.problems] == [
        ("AnnotationIgnored", "nginx.ingress.kubernetes.io/proxy-cookie-path: is not supported")
    ]
    assert locations(routing)[Match.START, "/"].settings.read_timeout == 7


def test_a_canary_takes_no_requests() -> None:
    main = ingress(path("/"), name="main")
    canary = ingress(path("/"), name="canary", age=5, ask={"canary": "true", "canary-weight": "10"})
    routing = routed(main, canary)
    assert answers(routing, "a.test", "/") == "shop/main"
    assert reasons(routing) == [("shop/canary", "AnnotationIgnored")]


def test_users_come_from_the_secret() -> None:
    users = Users("file", b"a:b\n")
    routing = routed(
        ingress(path("/"), ask={"auth-type": "basic", "auth-secret": "who"}), around=world(users={"shop/who": users})
    )
    assert routing.users == {"shop/who": users}
    assert routing.problems == ()


def test_what_nginx_refused_is_left_out() -> None:
    around = world(refused={"shop/bad": "missing )"})
    routing = routed(ingress(path("/"), name="bad", age=5), ingress(path("/"), name="good"), around=around)
    assert answers(routing, "a.test", "/") == "shop/good"
    assert "missing )" in routing.problems[0].message


def test_aliases_do_not_take_hosts() -> None:
    routing = routed(
        ingress(path("/"), ask={"server-alias": "b.test,c.test"}), ingress(path("/"), name="b", host="b.test")
    )
    assert [(one.name, one.aliases) for one in routing.servers] == [("", ()), ("a.test", ("c.test",)), ("b.test", ())]
    assert reasons(routing) == [("shop/site", "Conflict")]


def test_ours_is_the_class_with_our_controller() -> None:
    assert OURS.by_name == {"nginx"}
