"""Which logins are tried for an image, and in what order."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from agents.pods.credentials import credentials_for, entries_in, fits
from orca.api.objects import Obj


def secret(auths: dict[str, Any], *, name: str = "s", legacy: bool = False) -> Obj:
    content = json.dumps(auths if legacy else {"auths": auths}).encode()
    kind, key = ("dockercfg", ".dockercfg") if legacy else ("dockerconfigjson", ".dockerconfigjson")
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "type": f"kubernetes.io/{kind}",
        "data": {key: base64.b64encode(content).decode()},
    }


def login(user: str) -> dict[str, str]:
    return {"username": user, "password": "p"}


def users(image: str, *secrets: Obj, node: list[Any] | None = None) -> list[str]:
    return [found.auth["username"] for found in credentials_for(image, secrets, node or [])]


@pytest.mark.parametrize(
    ("pattern", "wanted", "fit"),
    [
        ("reg.example", "reg.example/app", True),
        ("reg.example", "reg.example:5000/app", False),
        ("reg.example:5000", "reg.example:5000/app", True),
        ("*.example", "eu.example/app", True),
        ("*.example", "a.eu.example/app", False),
        ("*.*.example:5000/team", "a.eu.example:5000/team/app", True),
        ("r?g.example", "rug.example/app", True),
        ("r[^e]g.example", "reg.example/app", False),
        ("reg.example/team", "reg.example/team/app", True),
        ("reg.example/team", "reg.example/other/app", False),
        ("*", "reg.example/app", False),
    ],
)
def test_keys_are_globs_by_label_with_port_and_path(pattern: str, wanted: str, fit: bool) -> None:
    assert fits(pattern, wanted) is fit


def test_longer_keys_come_first_and_all_that_fit_are_tried() -> None:
    auths = {"reg.example": login("host"), "https://reg.example/v2/": login("api"), "reg.example/team": login("team")}
    assert users("reg.example/team/app:1", secret(auths)) == ["team", "host", "api"]
    assert users("reg.example/other:1", secret(auths)) == ["host", "api"]


def test_secrets_come_before_the_node() -> None:
    node = [entries_in({"auths": {"reg.example": login("node")}}, wrapped=True)]
    found = credentials_for("reg.example/app", [secret({"reg.example": login("pod")})], node)
    assert [one.auth["username"] for one in found] == ["pod", "node"]
    assert found[0].source is not None
    assert found[0].source.name == "s"
    assert found[1].source is None


def test_docker_hub_has_its_own_name() -> None:
    hub = secret({"https://index.docker.io/v1/": {"auth": base64.b64encode(b"a:b:c").decode()}}, legacy=True)
    (found,) = credentials_for("busybox", [hub])
    assert (found.auth["username"], found.auth["password"]) == ("a", "b:c")
    assert found.auth["serveraddress"] == "https://index.docker.io/v1/"
    assert users("quay.io/x", hub) == []


@pytest.mark.parametrize("data", [{}, {".dockerconfigjson": "%%"}, {".dockerconfigjson": "e30="}])
def test_secrets_that_cannot_be_read_are_left_out(data: dict[str, str]) -> None:
    assert credentials_for("a", [{"type": "kubernetes.io/dockerconfigjson", "data": data}]) == []


def test_an_auth_field_that_is_no_login_is_left_out() -> None:
    assert users("reg.example/a", secret({"reg.example": {"auth": "bm9jb2xvbg=="}, "[": login("x")})) == []
