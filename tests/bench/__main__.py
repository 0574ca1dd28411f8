"""``python -m tests.bench NAME`` prints a table of figures and the ratio to a peer or floor; slowness is no failure."""

from __future__ import annotations

import importlib

import click

BENCHES = {
    "api": "GET, LIST, CREATE, PATCH and watch fan-out of the API server",
    "dns": "queries/s and p99 of cluster DNS, beside an echo and dnsmasq",
    "pods": "create→Running→Ready→gone one by one and in a burst, beside containers made by hand; idle pods",
    "reconcile": "a Deployment of 1,000 scaled, 10,000 objects collected, a Service of 1,000 pods kept; beside floors",
    "scheduler": "pods/s bound by the real scheduler to simulated nodes, each placement judged; decisions alone",
    "services": "rules of up to 10,000 services × 3 endpoints: cold sync, one change, a connection's first packet",
}


@click.command(
    context_settings={"ignore_unknown_options": True},
    help="Benches:\n\n" + "\n\n".join(f"{name}: {text}" for name, text in BENCHES.items()),
)
@click.argument("name", type=click.Choice(list(BENCHES)))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(name: str, options: tuple[str, ...]) -> None:
    importlib.import_module(f"tests.bench.{name}").command(list(options), standalone_mode=True)


main(prog_name="python -m tests.bench")
