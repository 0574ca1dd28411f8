"""Places pods on nodes: queue, snapshot, filters, scores, explanation.

Reads and writes through ``orca.client`` only.
"""

from orca.client.base import Client
from orca.client.clock import Clock
from orca.scheduler.scheduler import Scheduler, SchedulerConfig

__all__ = ["Scheduler", "SchedulerConfig", "run"]


async def run(client: Client, *, clock: Clock, config: SchedulerConfig | None = None) -> None:
    """Schedules until cancelled."""
    await Scheduler(client, clock=clock, config=config).run()
