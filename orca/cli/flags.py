"""What flags of ``orca server`` are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

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


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """The command with all of these flags, which its help shows in their order."""
    for option in reversed(options):
        command = option(command)
    return command
