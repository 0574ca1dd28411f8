"""``orca kubeconfig``: the admin kubeconfig on stdout, for ``orca kubeconfig > ~/.kube/config``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("kubeconfig")
@click.option(
    "--kubeconfig",
    "path",
    type=click.Path(path_type=Path),
    default=Path("/etc/orca/kubeconfig"),
    show_default=True,
    help="Where the server wrote it.",
)
def command(path: Path) -> None:
    """Print the admin kubeconfig."""
    try:
        click.echo(path.read_text(), nl=False)
    except FileNotFoundError:
        raise click.ClickException(f"{path} does not exist: does `orca server` run on this host?") from None
    except PermissionError:
        raise click.ClickException(f"{path} is for root only; try sudo") from None
