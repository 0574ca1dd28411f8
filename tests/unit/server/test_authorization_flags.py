"""Flags about authorization: what they come to, and what is refused where they contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from orca.auth.authorization_config import Configured
from orca.auth.webhook import Settings
from orca.cli.authorization import Authorizing

NAMES = (
    "authorization_config",
    "authorization_mode",
    "authorization_webhook_config_file",
    "authorization_webhook_version",
    "authorization_webhook_cache_authorized_ttl",
    "authorization_webhook_cache_unauthorized_ttl",
)


def taken(**changes: Any) -> Authorizing:
    values = {**dict.fromkeys(NAMES), "other": 1, **changes}
    made = Authorizing.taken_from(values)
    assert values == {"other": 1}
    return made


def test_without_any() -> None:
    assert taken().config.authorizers == (Configured("Node", "node"), Configured("RBAC", "rbac"))


def test_a_webhook() -> None:
    found = taken(
        authorization_mode="Node, Webhook",
        authorization_webhook_config_file=Path("/hook"),
        authorization_webhook_cache_authorized_ttl=0.0,
    ).config.authorizers
    settings = Settings(name="default", kubeconfig=Path("/hook"), allowed_ttl=0.0, refused_ttl=30.0, version="v1beta1")
    assert found == (Configured("Node", "node"), Configured("Webhook", "default", settings))


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "authorization.yaml"
    path.write_text(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: AuthorizationConfiguration,"
        " authorizers: [{type: RBAC, name: rbac}]}"
    )
    found = taken(authorization_config=path)
    assert (found.config.authorizers, found.file, found.content) == (
        (Configured("RBAC", "rbac"),),
        path,
        path.read_bytes(),
    )
    with pytest.raises(click.UsageError, match="can not be specified when --authorization-mode"):
        taken(authorization_config=path, authorization_mode="RBAC")
    path.write_text("kind: AuthorizationConfiguration")
    with pytest.raises(click.ClickException, match="Object 'ApiVersion' is missing"):
        taken(authorization_config=path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"authorization_mode": "ABAC"}, '"ABAC" is not a valid mode'),
        ({"authorization_mode": ","}, "at least one"),
        ({"authorization_mode": "RBAC,RBAC"}, "more than once"),
        ({"authorization_mode": "Webhook"}, "needs --authorization-webhook-config-file"),
        ({"authorization_webhook_config_file": Path("/hook")}, "without mode Webhook"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(click.UsageError, match=text):
        taken(**changes)
