"""Whatever people write into objects stays a word of the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orca.ingress import nginx
from orca.ingress.host import Host
from orca.ingress.model import Routing, Users
from orca.ingress.quoting import Unquotable, literal, quoted, template
from orca.ingress.settings import judge
from tests.unit.ingress.nginxtext import Directive, parse
from tests.unit.ingress.objects import ingress, path, routed, service, world

HOST = Host(Path("/run/x"), (Path("/lua"),), resolvers=("10.96.0.10",))
HOSTILE = st.text(st.sampled_from("\"'\\;{}#$()|*?<>=~^ \n\r\t\x00ab/1\u00e9\ud800") | st.characters(), max_size=30)

SERVER = {"server_name", "listen", "ssl_certificate_by_lua_block", "location"}
SERVER |= {"access_log", "client_max_body_size", "client_body_buffer_size"}  # of the one for the controller
TEXTS = [
    *("rewrite-target", "proxy-body-size", "proxy-read-timeout", "app-root", "permanent-redirect", "temporal-redirect"),
    *("server-alias", "upstream-vhost", "x-forwarded-prefix", "whitelist-source-range", "session-cookie-name"),
    *("session-cookie-path", "auth-realm", "cors-allow-origin", "cors-allow-methods", "cors-allow-headers"),
    *("proxy-next-upstream", "proxy-buffer-size", "backend-protocol", "limit-rps", "configuration-snippet"),
]


def words(text: str) -> tuple[str, ...]:
    (directive,) = parse(f"x {text};\n").inside
    return directive.words[1:]


@given(HOSTILE)
@example('"; } server { listen 1; } #')
@example("\\")
@example('\\";')
def test_a_quoted_word_is_read_back_as_it_was(text: str) -> None:
    try:
        written = quoted(text)
    except Unquotable:
        assert re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)
        return
    assert words(written) == (text,)


@given(HOSTILE)
def test_no_variable_is_expanded_in_a_literal(text: str) -> None:
    try:
        (word,) = words(literal(text))
    except Unquotable:
        return
    assert "$" not in word.replace("${orca_dollar}", "")
    assert word.replace("${orca_dollar}", "$") == text


def test_a_template_expands_what_it_may() -> None:
    assert template("/$1/$2", "12") == '"/$1/$2"'
    assert template("https://$host$request_uri", {"host", "request_uri"}) == '"https://${host}${request_uri}"'
    assert template("${host}x", {"host"}) == '"${host}x"'


@pytest.mark.parametrize("text", ["$", "$3", "${1}", "$hosts", "$orca_pool", "a$ b", "${host", "$Host"])
def test_a_template_refuses_other_variables(text: str) -> None:
    with pytest.raises(Unquotable):
        template(text, {"1", "host"})


def render(routing: Routing) -> str:
    return nginx.render(routing, HOST).text


@settings(max_examples=120, deadline=None)
@given(where=st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"]), text=HOSTILE, regex=st.booleans())
@example("ImplementationSpecific", 'x" { return 200 "$orca_pool"; } location "/y', True)
def test_a_path_adds_nothing_but_its_location(where: str, text: str, regex: bool) -> None:
    ask = {"use-regex": "true"} if regex else {}
    hostile = parse(render(routed(ingress(path(f"/{text}", where), ask=ask))))
    harmless = parse(render(routed(ingress(path("/plain", where), ask=ask))))
    servers = list(hostile.all("server"))
    assert len(servers) == len(list(harmless.all("server")))
    assert [one.name for one in hostile.inside] == [one.name for one in harmless.inside]
    known = {one.shape() for one in _locations(harmless)}
    for location in _locations(hostile):
        assert location.shape() in known
        assert location.words[-1].startswith(("/", "^/"))
        (pool,) = [one.words[2] for one in location.all("set") if one.words[1] == "$orca_pool"]
        assert pool in ("", "shop/web:80")
    assert len(list(_locations(hostile))) <= 4


def _locations(root: Directive) -> Iterator[Directive]:
    """Of the servers for requests from outside."""
    for server in root.all("server"):
        assert {one.name for one in server.inside} <= SERVER
        if any(one.name == "server_name" for one in server.inside):
            yield from server.all("location")


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(TEXTS),
        HOSTILE | st.builds(lambda text: f"https://x/{text}", HOSTILE) | st.builds(lambda text: f"/{text}", HOSTILE),
        max_size=4,
    )
)
def test_an_annotation_says_only_what_it_is_for(ask: dict[str, str]) -> None:
    more = {"affinity": "cookie", "enable-cors": "true", "auth-type": "basic", "auth-secret": "who"}
    around = world(users={"shop/who": Users("f", b"a:b\n")})
    root = parse(render(routed(ingress(path("/"), ask={**more, **ask}), around=around)))
    known = {directive.name for directive in parse(render(routed(ingress(path("/"))))).all("location")}
    assert known == {"location"}
    for location in _locations(root):
        assert not list(location.all("location"))
        for one in location.all("set"):
            assert one.words[1] in {
                "$orca_ingress", "$orca_pool", "$orca_host", "$orca_prefix", "$orca_cookie", "$orca_cookie_options",
                "$orca_cookie_secure", "$orca_cookie_moves", "$orca_target",
            }  # fmt: skip
            assert len(one.words) == 3
        for one in location.all("proxy_pass"):
            assert one.words[1] in {"http://orca_http_$orca_use", "https://orca_https_$orca_use"}


@given(HOSTILE)
def test_values_are_parsed_or_left_alone(text: str) -> None:
    judged = judge({"nginx.ingress.kubernetes.io/proxy-body-size": text}, "shop")
    assert judged.settings.body_size == "1m" or re.fullmatch(r"\d+[kKmMgG]?", judged.settings.body_size)
    assert judged.problems or judged.settings.body_size == text.strip()


def test_external_names_are_words() -> None:
    around = world(service(type="ExternalName", externalName='x.test"; evil'))
    routing = routed(ingress(path("/")), around=around)
    assert [problem.reason for problem in routing.problems] == ["BackendMissing"]
    assert "evil" not in render(routing)
