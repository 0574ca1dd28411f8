"""``orca lab``: a cluster of many hosts on this machine, and what can go wrong with it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orca.lab import clock as clocks
from orca.lab import cluster, faults, images
from orca.lab import host as hosts
from orca.lab import network as segment
from orca.lab.layout import DEFAULT_NAME, LabError, load
from orca.lab.services import AGENT, ENGINE, SERVER


class Steps:
    """Prints each step as it begins and, when the next one begins, how long it took."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._open = False

    def __call__(self, text: str) -> None:
        self._close()
        click.echo(f"  {text} … ", nl=False)
        self._open, self._last = True, time.monotonic()

    def _close(self) -> None:
        if self._open:
            click.echo(f"{time.monotonic() - self._last:.1f} s")
        self._open = False

    def done(self, text: str) -> None:
        self._close()
        click.echo(f"{text} ({time.monotonic() - self._began:.1f} s)")


class LabGroup(click.Group):
    """Turns ``LabError`` into one clear line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            click.echo(f"\norca lab: {error}", err=True)
            ctx.exit(1)


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--name", envvar="ORCA_LAB", default=DEFAULT_NAME, show_default=True, show_envvar=True, help="Which lab."
    )(function)


@click.group(cls=LabGroup, name="lab")
def command() -> None:
    """Run a cluster of many hosts on this machine.

    Each host is a network namespace with its own Docker Engine and orca-agent; the first one also runs the server.
    """
    if os.geteuid() != 0:
        raise LabError("network namespaces and engines need root")


@command.command()
@named
@click.option("--hosts", "size", default=3, show_default=True, help="Hosts in all: the server and its agent hosts.")
@click.option("--nat", is_flag=True, help="Let the hosts reach the outside, for pulling images.")
@click.option("--segments", default=1, show_default=True, help="Segments, with a router between them; hosts in turn.")
@click.option("--dual-stack", is_flag=True, help="IPv6 beside IPv4 for hosts, pods and services.")
def up(name: str, size: int, nat: bool, segments: int, dual_stack: bool) -> None:
    """Bring a lab up, or complete one that is up in part."""
    steps = Steps()
    lab = cluster.reserve(name, size, nat=nat, segments=segments, dual_stack=dual_stack)
    cluster.up(lab, archives=images.build_all(steps), say=steps)
    steps.done(f"lab {name!r} is up: {size} hosts, kubeconfig {lab.kubeconfig}")


@command.command()
@named
def down(name: str) -> None:
    """Take a lab down and remove every trace of it."""
    steps = Steps()
    cluster.down(name, say=steps)
    steps.done("nothing of the lab is left")


@command.command()
@named
def status(name: str) -> None:
    """Show the lab's hosts and what runs on them."""
    lab = load(name)
    click.echo(f"{'HOST':<10}{'ADDRESS':<16}{'POWER':<7}{'CABLE':<9}SERVICES")
    for host in lab.hosts:
        running = [service for service in (ENGINE, SERVER, AGENT) if hosts.service_is_running(host, service)]
        power = "on" if hosts.is_running(host) else "off"
        cable = "plugged" if segment.cable_is_up(host) else "pulled"
        click.echo(f"{host.name:<10}{host.address:<16}{power:<7}{cable:<9}{' '.join(running) or '-'}")


@command.command("load-image")
@named
@click.argument("archives", nargs=-1, required=True)
def load_image(name: str, archives: tuple[str, ...]) -> None:
    """Put images into every host.

    ARCHIVES are files as `docker save` writes them, or names of images that scripts/build-images makes.
    """
    lab = load(name)
    made = {tag: recipe for recipe in images.RECIPES for tag in (recipe.name, *recipe.tags)}
    for wanted in archives:
        if not Path(wanted).exists() and wanted not in made:
            raise LabError(f"{wanted!r} is neither a file nor one of {', '.join(sorted(made))}")
        path = Path(wanted) if Path(wanted).exists() else images.build(made[wanted])
        for host in lab.hosts:
            if hosts.is_running(host):
                click.echo(f"{host.name}: {cluster.load_archive(host, path)}")


@command.command("exec", context_settings={"ignore_unknown_options": True})
@named
@click.argument("host")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, host: str, argv: tuple[str, ...]) -> None:
    """Run a program on a host.

    For example: orca lab exec host-1 -- docker ps
    """
    prefix = hosts.enter(load(name).host(host))
    sys.stdout.flush()
    os.execvp(prefix[0], [*prefix, *argv])


@command.command(context_settings={"ignore_unknown_options": True})
@named
@click.argument("offset")
def clock(name: str, offset: str) -> None:
    """Set the server's wall clock.

    OFFSET is how far from this machine's, as 1h30m, 0 or (after --) -90s. The first time the server
    is started anew for it.
    """
    clocks.set_clock(load(name), offset)
    click.echo(f"clock {offset}: done")


def _fault(verb: str, action: Callable[..., None], argument: str, text: str, in_short: str = "") -> None:
    @command.command(verb, help=text, short_help=in_short or text)
    @named
    @click.argument("target", metavar=argument)
    def fault(name: str, target: str) -> None:
        action(load(name), target)
        click.echo(f"{verb} {target}: done")


_fault("stop", faults.stop, "HOST", "Shut a host down in order.")
_fault("start", faults.start, "HOST", "Switch a host on again.")
_fault(
    "kill",
    faults.kill,
    "TARGET",
    "Cut a HOST's power, or SIGKILL a process: server, etcd, agent/HOST, engine/HOST.",
    "Cut a host's power, or kill one process of it.",
)
_fault("partition", faults.partition, "HOST", "Pull a host's network cable.")
_fault("heal", faults.heal, "HOST", "Plug a host's network cable in again.")
