"""``orca trace POD SERVICE[:PORT]``: why a pod does, or does not, reach a Service."""

from __future__ import annotations

import asyncio

import click
from rich.console import Console

from orca.api.errors import ApiError
from orca.cli.cluster import cluster_options, opened
from orca.client.kubeconfig import Kubeconfig, KubeconfigError
from orca.explain.trace.explain import explain, first_break
from orca.explain.trace.facts import Facts, Wish
from orca.explain.trace.gather import Gatherer, PodNotFound
from orca.explain.trace.names import parse_wish
from orca.explain.trace.printing import as_json, show


class _Failed(click.ClickException):
    """Nothing could be traced at all."""

    exit_code = 2


def _wish(_context: click.Context, _parameter: click.Parameter, text: str) -> Wish:
    try:
        return parse_wish(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("trace")
@click.argument("pod")
@click.argument("service", callback=_wish)
@cluster_options
@click.option("--probe/--no-probe", default=True, show_default=True, help="Try TCP connections from the pod's network.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def command(
    context_of_click: click.Context,
    pod: str,
    service: Wish,
    config: Kubeconfig,
    namespace: str,
    probe: bool,
    output: str,
) -> None:
    """Follow the way from POD to SERVICE[:PORT[/PROTOCOL]]: name, DNS, Service, rules of the pod's host, policies,
    endpoints, the way back; and say where it breaks, why, and the smallest fix.

    POD may be NAMESPACE/NAME. SERVICE is what the program in the pod would use: web, web.shop, a full name, an address.
    What is on hosts is asked of their agents through the API server; that takes rights on nodes/proxy (get, create).
    Ends with 0 when nothing is found to be broken, 1 when something is, 2 when it could not be traced.
    """
    space, slash, called = pod.rpartition("/")
    try:
        space = space if slash else namespace or config.namespace()
        facts = asyncio.run(_gather(config, space, called, service, probe))
    except (ApiError, KubeconfigError, PodNotFound) as error:
        raise _Failed(str(error)) from error
    steps = explain(facts)
    if output == "json":
        click.echo(as_json(facts, steps).decode())
    else:
        show(Console(), facts, steps)
    context_of_click.exit(1 if first_break(steps) else 0)


async def _gather(config: Kubeconfig, space: str, called: str, wish: Wish, probe: bool) -> Facts:
    async with opened(config, "orca-trace") as client:
        return await Gatherer(client, probe=probe).gather(space, called, wish)
