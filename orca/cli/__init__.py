"""The ``orca`` command: one module a subcommand, loaded only when it is called.

Wiring lives here; what the parts do lives in their own rooms.
"""

from __future__ import annotations

import importlib
import sys

import click

# subcommand -> (module, attribute, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "server": ("orca.cli.server", "command", "Run the API server, controllers and scheduler."),
    "lab": ("orca.cli.lab", "command", "Run a cluster of many hosts on this machine."),
    "ingress": ("orca.cli.ingress", "command", "Run the ingress controller, in a pod with nginx."),
    "kubeconfig": ("orca.cli.kubeconfig", "command", "Print the admin kubeconfig."),
    "token": ("orca.cli.token", "command", "Make, list and delete join tokens for hosts."),
    "trace": ("orca.cli.trace", "command", "Say why a pod does not reach a Service, or that it does."),
    "validate": ("orca.cli.validate", "command", "Check manifests against the Kubernetes schema."),
    "timeline": ("orca.cli.timeline", "command", "Tell what happened to a workload and its pods, in order."),
    "why": ("orca.cli.why", "command", "Say why a pod or a workload does not run, and what would help."),
    "version": ("orca.cli.version", "command", "Print the version."),
}


class LazyGroup(click.Group):
    """Imports a subcommand's module only when it is used, so that ``orca lab status`` does not load gRPC."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in ("server", "ingress"):
            # structlog loads it for coloured tracebacks when it is there: 5 MB for nothing in a process that stays.
            sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # documented: an import of it fails
        module, attribute, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(importlib.import_module("orca.server.health").version_info()["gitVersion"])
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def main() -> None:
    """orca: a container orchestrator that serves the Kubernetes API and drives Docker on hosts."""
