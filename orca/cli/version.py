"""``orca version``."""

from __future__ import annotations

import click

from orca.server.health import version_info


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(version_info()["gitVersion"])
