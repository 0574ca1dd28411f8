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
        return command(*args, config=Kubeconfig(kubeconfig_files(kubeconfig), context), **kwargs)

    return wrapped


def kubeconfig_files(given: Path | None) -> Path | list[Path]:
    """As kubectl looks for it; then where the server has put the administrator's."""
    if given is not None:
        return given
    if named := files_of_environment():
        return named
    own = Path.home() / ".kube" / "config"
    return own if own.exists() or not ADMIN.exists() else ADMIN


def files_of_environment() -> list[Path]:
    """What ``$KUBECONFIG`` names, each once."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return [Path(one) for one in dict.fromkeys(named) if one]


@asynccontextmanager
async def opened(config: Kubeconfig, agent: str) -> AsyncIterator[HttpsClient]:
    """A client, closed at the end. Raises KubeconfigError."""
    client = HttpsClient(config, agent=agent)
    try:
        yield client
    finally:
        await client.aclose()
