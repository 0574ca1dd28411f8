"""What flags of ``orca server`` are made of."""

from __future__ import annotations

import ipaddress
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


def host_names(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """A callback: what a certificate may name, addresses as they are written most shortly. Raises
    click.BadParameter."""
    return tuple(map(_host_name, values))


def _host_name(value: str) -> str:
    if not names.ip_address(value):
        return str(ipaddress.ip_address(value))
    if names.dns1123_subdomain(value.lower()) and names.wildcard_subdomain(value.lower()):
        text = f"{value!r} is neither a DNS name nor an IP address; without scheme and port, and once a flag"
        raise click.BadParameter(text)
    return value


def etcd_members(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A callback: members of an etcd cluster, comma separated, or nothing. Raises click.BadParameter."""
    found = [one.strip() for one in value.split(",") if one.strip()]
    if value and not found:
        raise click.BadParameter(f"{value!r} names no member of an etcd cluster")
    for one in found:
        if problem := _member_problem(one):
            raise click.BadParameter(f"{one!r} {problem}; name members like https://10.0.0.1:2379")
    return ",".join(found)


def _member_problem(member: str) -> str:
    scheme, _, place = member.rpartition("://")
    if scheme not in ("", "http", "https"):
        return f"has the scheme {scheme}, which is none of etcd over the network"
    host, colon, port = place.rstrip("/").rpartition(":")
    if not colon or "]" in port:
        return "names no port"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return f"has {port!r} for a port"
    if host.startswith("[") and host.endswith("]"):
        return f"has {host!r}, which is no IPv6 address" if names.ip_address(host[1:-1]) or ":" not in host else ""
    if not names.ip_address(host) or not names.dns1123_subdomain_with_underscore(host.lower()):
        return "has an IPv6 address without brackets" if ":" in host else ""
    return f"has {host!r}, which is no name of a host"


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
