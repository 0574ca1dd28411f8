"""``orca token``: join tokens for hosts, kept as Secrets in kube-system."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import click
import yaml
from rich.console import Console
from rich.table import Table

from orca.api.builtin import CONFIGMAPS, SECRETS
from orca.api.errors import ApiError
from orca.api.objects import Obj, name
from orca.api.times import human_duration, parse_time
from orca.auth.bootstrap_tokens import (
    NAMESPACE,
    PREFIX,
    SECRET_TYPE,
    join_string,
    new_token,
    secret_field,
    token_secret,
)
from orca.auth.pki import spki_hash
from orca.cli.cluster import ADMIN, files_of_environment, opened
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig, KubeconfigError

T = TypeVar("T")
Files = Path | list[Path]
"""Of a kubeconfig."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+)([smhd])")


def parse_duration(text: str) -> timedelta | None:
    """``24h``, ``1h30m``, ``7d``; ``0`` is for ever (None). Raises ValueError."""
    if text.strip("0") == "" and text:
        return None
    if not text or _DURATION.sub("", text):
        raise ValueError(f"{text!r} is not a duration like 24h, 1h30m or 0 for ever")
    return sum((timedelta(**{_UNITS[u]: int(n)}) for n, u in _DURATION.findall(text)), timedelta())


def _ttl(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta | None:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _run(files: Files, work: Callable[[HttpsClient], Awaitable[T]]) -> T:
    if isinstance(files, Path) and not files.exists():
        raise click.ClickException(f"{files} does not exist: run this on the server's host, or give --kubeconfig")

    async def with_client() -> T:
        async with opened(Kubeconfig(files), "orca") as client:
            return await work(client)

    try:
        return asyncio.run(with_client())
    except (ApiError, KubeconfigError) as error:
        raise click.ClickException(str(error)) from error


@click.group("token")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    default=None,
    help=f"An administrator's kubeconfig. Otherwise $KUBECONFIG, {ADMIN}.",
)
@click.pass_context
def command(context: click.Context, kubeconfig: Path | None) -> None:
    """Make, list and delete join tokens for hosts."""
    context.obj = kubeconfig or files_of_environment() or ADMIN  # looked at by who needs them, which --help does not


@command.command("create")
@click.option("--ttl", callback=_ttl, default="24h", show_default=True, help="How long it works; 0: for ever.")
@click.option("--description", default="", help="What it is for.")
@click.pass_obj
def create(files: Files, ttl: timedelta | None, description: str) -> None:
    """Make a token and print it, alone on one line."""

    async def work(client: HttpsClient) -> str:
        ca = await _cluster_ca(client)
        token_id, secret = new_token()
        expires = datetime.now(UTC) + ttl if ttl is not None else None
        body = token_secret(token_id, secret, expires=expires, description=description)
        await client.create(SECRETS, body, NAMESPACE)
        return join_string(token_id, secret, spki_hash(ca))

    click.echo(_run(files, work))


@command.command("list")
@click.pass_obj
def list_tokens(files: Files) -> None:
    """Show all tokens, without their secrets."""

    async def work(client: HttpsClient) -> list[Obj]:
        found = await client.list(SECRETS, NAMESPACE, fields=f"type={SECRET_TYPE}")
        return found.items

    rows = _run(files, work)
    table = Table("ID", "EXPIRES", "DESCRIPTION", box=None, pad_edge=False)
    for secret in rows:
        table.add_row(name(secret).removeprefix(PREFIX), _expiry(secret), secret_field(secret, "description"))
    Console().print(table)


@command.command("delete")
@click.argument("ids", nargs=-1, required=True)
@click.pass_obj
def delete(files: Files, ids: tuple[str, ...]) -> None:
    """Delete tokens by id (whole tokens will do)."""

    async def work(client: HttpsClient) -> None:
        for token in ids:
            await client.delete(SECRETS, PREFIX + token.partition(".")[0], NAMESPACE)

    _run(files, work)


async def _cluster_ca(client: HttpsClient) -> bytes:
    info = await client.get(CONFIGMAPS, "cluster-info", "kube-public")
    try:
        config = yaml.safe_load(info["data"]["kubeconfig"])
        return b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise click.ClickException("the ConfigMap kube-public/cluster-info holds no CA") from error


def _expiry(secret: Obj) -> str:
    text = secret_field(secret, "expiration")
    if not text:
        return "never"
    try:
        left = parse_time(text) - datetime.now(UTC)
    except ValueError:
        return "unreadable"
    return "expired" if left <= timedelta() else f"in {human_duration(left)}"
