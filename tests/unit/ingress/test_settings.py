"""Annotations, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from orca.ingress.settings import DEFAULTS, PREFIX, Affinity, BasicAuth, Cors, Judged, Redirect, judge


def judged(**ask: str) -> Judged:
    return judge({PREFIX + name.replace("_", "-"): text for name, text in ask.items()}, "shop")


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("rewrite-target", "/$2?x=$1", "rewrite_target", "/$2?x=$1"),
        ("use-regex", "true", "use_regex", True),
        ("ssl-redirect", "false", "ssl_redirect", False),
        ("proxy-body-size", "8m", "body_size", "8m"),
        ("proxy-read-timeout", "3600", "read_timeout", 3600),
        ("proxy-send-timeout", "30s", "send_timeout", 30),
        ("proxy-buffering", "on", "buffering", True),
        ("proxy-next-upstream", "error http_502", "next_upstream", "error http_502"),
        ("backend-protocol", "https", "protocol", "HTTPS"),
        ("backend-protocol", "AUTO_HTTP", "protocol", "HTTP"),
        ("whitelist-source-range", "10.0.0.1/8, fd00::/8", "allow", ("10.0.0.0/8", "fd00::/8")),
        ("denylist-source-range", "1.2.3.4", "deny", ("1.2.3.4/32",)),
        ("permanent-redirect", "https://x.test$request_uri", "redirect", Redirect(301, "https://x.test$request_uri")),
        ("temporal-redirect", "http://x.test", "redirect", Redirect(302, "http://x.test")),
        ("server-alias", "B.test, c.test", "aliases", ("b.test", "c.test")),
        ("affinity", "cookie", "affinity", Affinity()),
        ("enable-cors", "true", "cors", Cors()),
        ("limit-rps", "5", "requests_per_second", 5),
    ],
)
def test_values(name: str, text: str, field: str, value: Any) -> None:
    found = judge({PREFIX + name: text}, "shop")
    assert getattr(found.settings, field) == value
    assert found.problems == ()
    assert not found.settings.denied


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rewrite-target", "/$host"),
        ("rewrite-target", "/$12"),
        ("rewrite-target", '/"; x'),
        ("use-regex", "yes"),
        ("proxy-body-size", "8 m"),
        ("proxy-read-timeout", "0"),
        ("proxy-read-timeout", "1h"),
        ("proxy-next-upstream", "error everything"),
        ("backend-protocol", "FCGI"),
        ("permanent-redirect", "/relative"),
        ("permanent-redirect", "https://x/$orca_pool"),
        ("server-alias", "*.x.test"),
        ("app-root", "relative"),
        ("session-cookie-name", "a=b"),
        ("cors-allow-origin", "https://*.x.test/path"),
        ("configuration-snippet", "more_set_headers x;"),
    ],
)
def test_bad_values_are_told_and_left_alone(name: str, text: str) -> None:
    found = judge({PREFIX + name: text}, "shop")
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{PREFIX}{name}: ")
    assert found.settings == DEFAULTS


def test_several_make_one() -> None:
    found = judged(auth_type="basic", auth_secret="who", auth_secret_type="auth-map", auth_realm="Members only")
    assert found.settings.basic_auth == BasicAuth("shop/who", "Members only", by_user=True)
    found = judged(affinity="cookie", session_cookie_max_age="60", session_cookie_samesite="Strict")
    assert found.settings.affinity == Affinity(max_age=60, same_site="Strict")
    assert judged(permanent_redirect="http://x.test", permanent_redirect_code="308").settings.redirect == Redirect(
        308, "http://x.test"
    )


def test_other_annotations_are_nobodys_business() -> None:
    assert judge({"example.com/x": "y", "kubernetes.io/ingress.class": "nginx"}, "shop") == Judged(DEFAULTS)
