"""A pod's own way to its cluster."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from orca.client.incluster import InCluster
from orca.client.kubeconfig import KubeconfigError
from tests.support.tls import Authority

VARIABLES = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path, "own").pair.cert.read_bytes())
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("edge")
    return tmp_path


def test_the_service_and_the_account(account: Path) -> None:
    inside = InCluster(account, VARIABLES)
    endpoint = inside.load()
    assert (endpoint.server, endpoint.token) == ("https://10.96.0.1:443", "first")
    assert endpoint.ssl is not None
    assert endpoint.ssl.verify_mode is ssl.CERT_REQUIRED
    assert inside.namespace() == "edge"
    assert not inside.changed()


def test_a_renewed_token_is_noticed(account: Path) -> None:
    inside = InCluster(account, VARIABLES)
    inside.load()
    (account / "new").write_text("second")
    os.replace(account / "new", account / "token")
    assert inside.changed()
    assert inside.load().token == "second"
    (account / "token").unlink()
    assert not inside.changed()


def test_ipv6(account: Path) -> None:
    found = InCluster(account, {**VARIABLES, "KUBERNETES_SERVICE_HOST": "fd00::1"}).load()
    assert found.server == "https://[fd00::1]:443"


def test_outside_of_a_pod(account: Path, tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="runs in no pod"):
        InCluster(account, {}).load()
    with pytest.raises(KubeconfigError):
        InCluster(tmp_path / "none", VARIABLES).load()
