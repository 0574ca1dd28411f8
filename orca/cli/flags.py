"""What flags of ``orca server`` are made of."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from orca.api import names
from orca.api.durations import parse_duration

Command = TypeVar("Command", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """Seconds, written as Go does: ``1m30s``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click.BadParameter."""
        if isinstance(value, int | float):
            return float(value)
        try:
            seconds = parse_duration(str(value))
        except ValueError:
            seconds = -1.0
        if seconds < 0:
            self.fail(f"{value!r} is not a duration like 60s or 1h30m", param, ctx)
        return seconds


def ip_address(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A callback: one address, or nothing. Raises click.BadParameter."""
    if value and names.ip_address(value):
        raise click.BadParameter(f"{value!r} is not an IP address")
    return value


def certificates(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """A callback: a file of certificates in PEM, or none. Raises click.BadParameter."""
    if value is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(value)
        except OSError as error:
            raise click.BadParameter(f"{value}: no certificates in PEM can be read: {error}") from error
    return value


class Recalled(click.Command):
    """A command that knows what was said on its command line, as it was said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises click.UsageError."""
        ctx.meta[__name__], _, _ = self.make_parser(ctx).parse_args(args=list(args))
        return super().parse_args(ctx, args)


def flags_in_force(context: click.Context) -> dict[str, str]:
    """Every flag of a ``Recalled`` command without its dashes, and its value as Go programs print theirs."""
    said: dict[str, Any] = context.meta.get(__name__, {})
    found = {}
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and parameter.name is not None:
            value = said.get(parameter.name, parameter.get_default(context))
            found[parameter.opts[0].lstrip("-")] = _printed(value, parameter.multiple)
    return found


def _printed(value: Any, multiple: bool) -> str:
    if multiple:
        return f"[{','.join(map(str, value)) if isinstance(value, list | tuple) else ''}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float | Path) else ""  # nothing said, and no default


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """The command with all of these flags, which its help shows in their order."""
    for option in reversed(options):
        command = option(command)
    return command
