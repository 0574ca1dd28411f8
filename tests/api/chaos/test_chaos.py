"""Controllers and scheduler die at random while thirty workloads change: all converge, nothing is made twice.

``ORCA_CHAOS_SEED`` repeats the choices of a run (not its timing), ``ORCA_CHAOS_MINUTES`` sets how long it takes, and
the servers' logs are left in the directory ``ORCA_CHAOS_LOGS``.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from orca.client.http import HttpsClient
from tests.api.chaos.ending import missing
from tests.api.chaos.faults import ELECTION, START_SECONDS, Faults
from tests.api.chaos.kubelets import Kubelets
from tests.api.chaos.rules import all_rules
from tests.api.chaos.wishes import Wishes
from tests.api.chaos.world import World
from tests.api.server.process import ServerProcess
from tests.support.etcd import private_etcd
from tests.support.servers import give_keys, servers_on

HOSTS = 12
LEADERS = 2
CALM_SECONDS = 10.0
"""Of the minutes: the last ones are without faults."""
SETTLED_SECONDS = 2.0
FEWEST = 2
"""Faults: the first, and one by chance. On a machine with nothing else to do there are two dozen in two minutes."""
PATIENCE_SECONDS = 150.0
"""For all to converge; some seconds on a machine with nothing else to do."""
CALM = "--node-monitor-grace-period=10m"
FAULTS = ("event='reconcile failed'", "crashed")


@pytest.mark.timeout(600)
async def test_nothing_is_made_twice_and_all_converge_whoever_dies() -> None:
    await chaos(float(os.environ.get("ORCA_CHAOS_MINUTES", "2")))


@pytest.mark.slow
@pytest.mark.timeout(1500)
async def test_ten_minutes_of_it() -> None:
    await chaos(float(os.environ.get("ORCA_CHAOS_MINUTES", "10")))


async def chaos(minutes: float) -> None:
    began = time.monotonic()
    seed = int(os.environ.get("ORCA_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ORCA_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    async with private_etcd() as etcd, servers_on(etcd.endpoint, 1, "--no-controllers") as asked:
        client = HttpsClient.from_kubeconfig(asked[0].kubeconfig)
        kubelets = Kubelets(client, HOSTS, random.Random(chance.random()))
        # What is known of who ends pods is asked when a rule judges.
        world = World()
        wishes = Wishes(client, world, random.Random(chance.random()))
        world.rules = all_rules(kubelets.let_go, wishes.disrupted)
        leaders = [_candidate(asked[0], etcd.endpoint, number) for number in range(LEADERS)]
        faults = Faults(leaders, etcd, world, random.Random(chance.random()))
        background = [asyncio.create_task(world.follow(etcd.endpoint)), asyncio.create_task(kubelets.run())]
        try:
            await asyncio.gather(*(asyncio.to_thread(one.start, START_SECONDS) for one in leaders))
            await asyncio.gather(wishes.begin(), faults.stop_in_the_middle())
            changing = asyncio.create_task(wishes.run())
            harming = asyncio.create_task(faults.run())
            left = max(began + minutes * 60 - CALM_SECONDS - time.monotonic(), minutes * 40)
            done, _ = await asyncio.wait({changing, harming, *background}, timeout=left, return_when="FIRST_COMPLETED")
            wishes.stop()
            harming.cancel()
            results = await asyncio.gather(harming, changing, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
            assert not done, [task.exception() for task in done]
            await wishes.finish()
            calm = time.monotonic()
            reasons = await _converge(world, wishes)
            print(
                f"{wishes.changes} changes of workloads, {world.changes} of objects, {dict(faults.done)}, "
                f"{len(faults.leaders)} leaders, converged in {time.monotonic() - calm:.1f} s"
            )
            assert not world.broken, _told(world.broken)
            assert not reasons, _told(reasons)
            assert not faults.problems, _told(faults.problems)
            crashes = [line for one in (*asked, *leaders) for line in _faults(one)]
            assert not crashes, _told(crashes)
            assert len(faults.leaders) > 1
            assert sum(faults.done.values()) >= FEWEST
        finally:
            if world.broken:
                print("broken", _told(world.broken))
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            for one in leaders:
                if one.process is not None:
                    one.kill()
            await client.aclose()
            if kept := os.environ.get("ORCA_CHAOS_LOGS"):
                for one in (*asked, *leaders):
                    shutil.copy2(one.log, Path(kept, f"{one.directory.name}.log"))


def _candidate(first: ServerProcess, etcd: str, number: int) -> ServerProcess:
    """A server that may lead, with the keys of the first."""
    home = first.directory.parent / f"leader-{number}"
    home.mkdir()
    give_keys(first.directory, home)
    return ServerProcess(home, f"--etcd-servers={etcd}", CALM, *ELECTION)


async def _converge(world: World, wishes: Wishes) -> list[str]:
    """Returns what is still missing: nothing, once nothing has been for a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    since: float | None = None
    while True:
        reasons = missing(world, wishes.wanted)
        now = time.monotonic()
        if reasons:
            since = None
        elif since is None:
            since = now
        elif now - since > SETTLED_SECONDS:
            return []
        if now > deadline:
            return reasons or ["nothing stays as it is"]
        await asyncio.sleep(0.5)


def _told(found: Iterable[str], most: int = 40) -> str:
    lines = list(found)
    return "\n".join([f"{len(lines)}:", *lines[:most]])


def _faults(server: ServerProcess) -> list[str]:
    """What the log says of crashes, and of writes that the API does not take; what is away or changes is no fault."""
    lines = [line for line in server.log.read_text(errors="replace").splitlines() if any(one in line for one in FAULTS)]
    return [f"{server.directory.name}: {one[:3000]}" for one in lines if "ApiError" not in one or "is invalid" in one]
