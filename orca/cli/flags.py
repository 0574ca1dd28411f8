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


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """The command with all of these flags, which its help shows in their order."""
    for option in reversed(options):
        command = option(command)
    return command
