"""``orca why POD`` (or a workload): why it does not run, and what would help."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import click
from rich.console import Console

from orca.api.builtin import PODS
from orca.api.errors import ApiError
from orca.cli.cluster import cluster_options, opened
from orca.client.kubeconfig import Kubeconfig, KubeconfigError
from orca.explain.why import gather
from orca.explain.why.findings import Explanation
from orca.explain.why.printing import as_json, show
from orca.explain.why.waiting import explain_pod
from orca.explain.why.workload import explain_workload


class _Failed(click.ClickException):
    exit_code = 2


@click.command("why")
@click.argument("target")
@cluster_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def command(context_of_click: click.Context, target: str, config: Kubeconfig, namespace: str, output: str) -> None:
    """Say why TARGET does not run: every node with every rule that keeps it away and by how much, the smallest change
    that would let it run, or what it waits for: a volume, an image, an init container, a crash's back-off, a probe.

    TARGET is a pod's name, or KIND/NAME of a pod, deployment, statefulset, daemonset, job, cronjob, replicaset or
    replicationcontroller. Ends with 0 when nothing is in the way, 1 when something is, 2 when it could not be found
    out.
    """
    try:
        told = asyncio.run(explain(config, target, namespace or config.namespace()))
    except (ApiError, KubeconfigError, gather.NothingFound) as error:
        raise _Failed(str(error)) from error
    if output == "json":
        click.echo(as_json(told).decode())
    else:
        show(Console(), told)
    context_of_click.exit(0 if told.is_well else 1)


async def explain(config: Kubeconfig, target: str, space: str) -> Explanation:
    """Of a target as the command takes it. Raises NothingFound, ApiError, KubeconfigError."""
    async with opened(config, "orca-why") as client:
        row, found = await gather.find(client, target, space)
        if row is PODS:
            world = await gather.world(client, [found], space)
            return explain_pod(found, world, datetime.now(UTC))
        owned = await gather.owned(client, row, found, space)
        world = await gather.world(client, [found, *owned], space)
        return explain_workload(found, owned, world, datetime.now(UTC))
