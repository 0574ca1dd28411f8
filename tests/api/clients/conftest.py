"""A server with its controllers: what clients make is acted upon."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("clients"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="package")
def kubeconfig(server: ServerProcess) -> Path:
    return server.kubeconfig


@pytest.fixture(scope="package")
def admin(kubeconfig: Path) -> Kubectl:
    return Kubectl(kubectls.current(), kubeconfig)


@pytest.fixture
def space(admin: Kubectl) -> str:
    """A fresh namespace."""
    name = f"c{next(_numbers)}"
    admin("create", "namespace", name)
    return name
