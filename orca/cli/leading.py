"""What only one server of a cluster does at a time: controllers and scheduler, for as long as it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import structlog

from orca.api.errors import ApiError
from orca.cli.flags import Command, Duration, with_options
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.keeping import keep_running
from orca.client.leader import LeaderElector
from orca.server.peers import begin_term
from orca.store import Store, behind

log = structlog.get_logger()

LEASE = "orca-controllers"
JITTER = 1.2
"""Upstream's: a leader must have the time to try more than once."""

_OPTIONS = (
    click.option(
        "--leader-elect-lease-duration",
        type=Duration(),
        default="15s",
        help="Others wait so long for a leader's sign of life before one of them takes over.",
    ),
    click.option(
        "--leader-elect-renew-deadline",
        type=Duration(),
        default="10s",
        help="A leader that could give no sign of life for so long stops to lead.",
    ),
    click.option(
        "--leader-elect-retry-period", type=Duration(), default="2s", help="Between two tries to lead, or to go on."
    ),
)


def election_options(command: Command) -> Command:
    """All of them on a click command; ``Election.taken_from`` takes their values."""
    return with_options(command, _OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """What these flags say, in seconds."""

    lease_duration: float
    renew_deadline: float
    retry: float

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> Election:
        """Takes its values out of those of a command. Raises click.UsageError, as client-go's elector refuses them."""
        lease, renew, retry = (
            values.pop(f"leader_elect_{one}") for one in ("lease_duration", "renew_deadline", "retry_period")
        )
        if lease < 1 or lease != int(lease):
            raise click.UsageError("--leader-elect-lease-duration must be whole seconds, at least one")
        if lease <= renew:
            raise click.UsageError("--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline")
        if renew <= retry * JITTER or retry <= 0:
            raise click.UsageError(
                f"--leader-elect-renew-deadline must be greater than {JITTER} times --leader-elect-retry-period, which "
                "must be greater than 0"
            )
        return cls(lease_duration=lease, renew_deadline=renew, retry=retry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something a leader does, until cancelled."""

    name: str
    run: Callable[[], Awaitable[None]]


async def lead_when_elected(
    works: Sequence[Work], *, client: Client, store: Store, identity: str, clock: Clock, election: Election
) -> None:
    """Runs ``works`` while this server leads, each in terms of which etcd knows; until cancelled."""

    async def lead() -> None:
        try:
            fence = await begin_term(store, LEASE, identity)
        except ApiError as error:
            log.warning("cannot begin to lead", error=str(error))
            await clock.sleep(election.retry)
            return
        with behind(fence):
            tasks = [asyncio.create_task(keep_running(one.name, one.run, clock), name=one.name) for one in works]
        try:
            log.warning("leading ends, and begins anew if it is still ours to lead", why=await fence.over())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    elector = LeaderElector(
        client,
        LEASE,
        identity,
        lead,
        clock=clock,
        lease_duration=election.lease_duration,
        renew_deadline=election.renew_deadline,
        retry=election.retry,
    )
    await keep_running("leader election", elector.run, clock)
