"""What commands that talk to a cluster have in common: which one, as whom, and in which namespace."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig

ADMIN = Path("/etc/orca/kubeconfig")


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--kubeconfig``, ``--context`` and ``-n`` for a command, which gets ``config`` and ``namespace`` ("" when not
    given)."""

    @click.option("-n", "--namespace", default="", help="Otherwise that of the kubeconfig's context.")
    @click.option(
        "--kubeconfig", type=click.Path(path_type=Path), default=None, help="Otherwise $KUBECONFIG, ~/.kube/config."
    )
    @click.option("--context", default="", help="Context of the kubeconfig.")
    @functools.wraps(command)
    def wrapped(*args: Any, kubeconfig: Path | None, context: str, **kwargs: Any) -> Any:
        return command(*args, config=Kubeconfig(kubeconfig_path(kubeconfig), context), **kwargs)

    return wrapped


def kubeconfig_path(given: Path | None) -> Path:
    """As kubectl looks for it; then where the server has put the administrator's."""
    if given is not None:
        return given
    if named := os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]:
        return Path(named)
    own = Path.home() / ".kube" / "config"
    return own if own.exists() or not ADMIN.exists() else ADMIN


@asynccontextmanager
async def opened(config: Kubeconfig, agent: str) -> AsyncIterator[HttpsClient]:
    """A client, closed at the end. Raises KubeconfigError."""
    client = HttpsClient(config, agent=agent)
    try:
        yield client
    finally:
        await client.aclose()
