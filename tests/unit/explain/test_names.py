"""What is typed, and what a resolver makes of it."""

from __future__ import annotations

import pytest

from orca.explain.trace.facts import Resolver, Wish
from orca.explain.trace.names import candidates, parse_wish, service_of

SEARCHES = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("web", Wish("web")),
        ("Web.shop:http", Wish("web.shop", "http")),
        ("web:53/udp", Wish("web", "53", "UDP")),
    ],
)
def test_what_is_typed(text: str, wish: Wish) -> None:
    assert parse_wish(text) == wish


@pytest.mark.parametrize("text", ["", ":80", "web:", "web:0", "web:70000", "web:80/ICMP"])
def test_what_cannot_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_wish(text)


@pytest.mark.parametrize(
    ("host", "ndots", "first", "count"),
    [
        ("web", 5, "web.shop.svc.cluster.local", 4),
        ("web.shop", 5, "web.shop.shop.svc.cluster.local", 4),
        ("www.example.com", 2, "www.example.com", 4),
        ("web.shop.svc.cluster.local.", 5, "web.shop.svc.cluster.local", 1),
    ],
)
def test_names_that_are_tried(host: str, ndots: int, first: str, count: int) -> None:
    names = candidates(host, Resolver(("10.96.0.10",), SEARCHES, (f"ndots:{ndots}",)))
    assert (names[0], len(names)) == (first, count)


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("web", ("own", "web")),
        ("web.shop", ("shop", "web")),
        ("web.shop.svc", ("shop", "web")),
        ("web.shop.svc.cluster.local", ("shop", "web")),
        ("web-0.web.shop.svc.cluster.local.", ("shop", "web")),
        ("www.example.com", ("", "")),
        ("10.96.0.50", ("", "")),
    ],
)
def test_services_that_are_meant(host: str, meant: tuple[str, str]) -> None:
    assert service_of(host, "own", "cluster.local") == meant
