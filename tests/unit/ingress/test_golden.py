"""The configuration as a person reads it. ``ORCA_GOLDEN=write`` writes the file anew; read the difference then."""

from __future__ import annotations

import os
from pathlib import Path

from orca.ingress import nginx
from tests.unit.ingress.examples import HOST, everything
from tests.unit.ingress.nginxtext import parse

GOLDEN = Path(__file__).parent / "golden" / "everything.conf"


def test_the_configuration_is_the_golden_one() -> None:
    text = nginx.render(everything(), HOST).text
    if os.environ.get("ORCA_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_every_line_of_an_ingress_is_known_to_be_its() -> None:
    rendered = nginx.render(everything(), HOST)
    lines = rendered.text.splitlines()
    (number,) = [at for at, line in enumerate(lines, 1) if '"^/api(/|$)(.*)"' in line and "location" in line]
    assert rendered.culprit(number) == "shop/api"
    assert rendered.culprit(1) == rendered.culprit(0) == rendered.culprit(10**6) == ""


def test_endpoints_are_not_in_it() -> None:
    """So that their changes reload nothing."""
    assert "10.244." not in nginx.render(everything(), HOST).text


def test_only_hosts_with_tls_redirect() -> None:
    root = parse(nginx.render(everything(), HOST).text)
    redirecting = set()
    for server in root.all("server"):
        names = [one.words[1] for one in server.inside if one.name == "server_name"]
        if any(one.words[1:] == ("308", "https://$host$request_uri") for one in server.all("return")):
            redirecting.update(names)
    assert redirecting == {"a.test", "~^[^.]+\\.w\\.test$"}
