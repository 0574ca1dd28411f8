"""``orca timeline WORKLOAD``: one ordered story of what happened to it and to all that it owns."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import click
from rich.console import Console

from orca.api.builtin import EVENTS, PODS
from orca.api.durations import parse_duration
from orca.api.errors import ApiError
from orca.cli.cluster import cluster_options, opened
from orca.client.kubeconfig import Kubeconfig, KubeconfigError
from orca.explain.timeline.printing import as_json, show
from orca.explain.timeline.story import Entry, tell
from orca.explain.why import gather


class _Failed(click.ClickException):
    exit_code = 2


def _since(_context: click.Context, _parameter: click.Parameter, text: str) -> datetime | None:
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text)) if text else None
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no duration such as 10m or 1h30m") from error


@click.command("timeline")
@click.argument("target")
@cluster_options
@click.option("--since", callback=_since, default="", help="Only what happened within this time, such as 10m.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(target: str, config: Kubeconfig, namespace: str, since: datetime | None, output: str) -> None:
    """Tell what happened to TARGET and all that it owns, in order: made, scheduled, pulled, started, probed, killed.

    TARGET is a pod's name, or KIND/NAME of a pod, deployment, statefulset, daemonset, job, cronjob, replicaset or
    replicationcontroller. What is gone is known from events, which are kept for an hour.
    """
    try:
        entries = asyncio.run(_entries(config, target, namespace or config.namespace(), since))
    except (ApiError, KubeconfigError, gather.NothingFound) as error:
        raise _Failed(str(error)) from error
    if output == "json":
        click.echo(as_json(entries).decode())
    else:
        show(Console(), entries, since=since)


async def _entries(config: Kubeconfig, target: str, space: str, since: datetime | None) -> list[Entry]:
    async with opened(config, "orca-timeline") as client:
        row, found = await gather.find(client, target, space)
        owned = [] if row is PODS else await gather.owned(client, row, found, space)
        events, claims = await asyncio.gather(client.list(EVENTS, space), gather.claims(client, [found, *owned], space))
        return tell([found, *owned, *claims], events.items, since=since)
