"""What every controller is built from: a context, a base class, and one with a queue of keys.

A controller is constructed once (it registers its handlers on the shared caches) and its `run` may be started again
after a crash; a crash of one never reaches another.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from math import inf

import structlog

from orca.api.errors import ApiError, is_conflict
from orca.api.objects import Obj, controller_of, key, namespace, uid
from orca.api.resources import Resource
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.workqueue import DONE, Outcome, RetryAfter, WorkQueue
from orca.controllers.awake import AwakeTime
from orca.controllers.cache import Cache, Caches
from orca.controllers.config import ControllersConfig

log = structlog.get_logger()

__all__ = ["DONE", "BaseController", "Context", "Controller", "Outcome", "RetryAfter", "gather_all", "slow_start"]

LONGEST_WINDOW = 0.5
"""Seconds for which a Coalescer may make anybody wait."""
UNAVAILABLE = frozenset({429, 500, 502, 503, 504})


@dataclass(slots=True)
class Context:
    """Shared by all controllers of one `run_all`."""

    client: Client
    clock: Clock
    config: ControllersConfig
    caches: Caches
    recorders: dict[str, EventRecorder] = field(default_factory=dict)
    awake: AwakeTime = field(init=False)

    def __post_init__(self) -> None:
        self.awake = AwakeTime(self.clock)

    def recorder(self, component: str) -> EventRecorder:
        """The recorder whose events come from `component`."""
        found = self.recorders.get(component)
        if found is None:
            found = self.recorders[component] = EventRecorder(self.client, component, clock=self.clock)
        return found


class BaseController(ABC):
    """What the manager runs: all that has keys is a `Controller`, what only looks now and then implements `run`."""

    name: str
    patience = inf
    """Seconds for which it waits at its start for custom kinds that cannot be read: their webhooks are not ours."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client
        self.clock = context.clock
        self.caches = context.caches.view()
        self.recorder = context.recorder(self.name)
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @abstractmethod
    async def run(self) -> None:
        """Works until cancelled; called when the caches it uses are filled, and again after a crash."""

    def clock_set(self) -> None:  # noqa: B027  # most that have no keys wait for no time of day
        """The wall clock was set forward or back."""

    def tell(self, about: str, error: BaseException) -> None:
        """Logs a failure: with its traceback the first time, briefly until what it is about succeeds.

        A refusal (403) is told without: quota, policies and webhooks refuse what users asked for.
        """
        if about not in self._told:
            self._told.add(about)
            if isinstance(error, ApiError) and error.code == 403:
                log.warning("reconcile refused", controller=self.name, key=about, error=str(error))
            else:
                log.error("reconcile failed", controller=self.name, key=about, exc_info=error)
        else:
            log.warning("reconcile failed again", controller=self.name, key=about, error=str(error))


class Controller(BaseController):
    """Reconciles keys of one resource. Subclasses enqueue from handlers.

    Conflicts and an unavailable server are retried quietly with backoff; anything else as well, and the traceback is
    logged once for a key until it succeeds.
    """

    resource: Resource
    workers = 0
    """Keys worked on side by side; 0 takes the configured number."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.queue = WorkQueue(
            self._attempt, clock=context.clock, workers=self.workers or context.config.workers, name=self.name
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue!r}>"

    @abstractmethod
    async def sync(self, key: str) -> Outcome:
        """Moves the object of that key, or whatever the key means here, towards what should be."""

    async def run(self) -> None:
        """Works until cancelled; called when the caches it uses are filled."""
        await self.queue.run()

    def enqueue(self, obj: Obj) -> None:
        """Handler: looks at the object soon."""
        self.queue.add(key(obj))

    def clock_set(self) -> None:
        """Whatever waits for a time of the wall clock has its wait reckoned anew."""
        self.queue.hasten()

    async def _attempt(self, object_key: str) -> Outcome:
        try:
            outcome = await self.sync(object_key)
        except ApiError as error:
            if not is_conflict(error) and error.code not in UNAVAILABLE:
                self.tell(object_key, error)
            elif error.retry_after:
                return RetryAfter(error.retry_after)
            return RetryAfter()
        except Exception as error:
            self.tell(object_key, error)
            return RetryAfter()
        self._told.discard(object_key)
        return outcome


class Coalescer:
    """Passes the first wish for a key on at once and collects those that follow within `window` seconds into one.

    For handlers that hear of every pod of a large set: replacing one pod stays instant, a burst of a thousand costs a
    few looks instead of a thousand. What a look has `cost` lengthens the window of its key, so that one large set does
    not keep everybody else waiting: `factor` times as long, LONGEST_WINDOW at most.
    """

    def __init__(self, queue: WorkQueue, clock: Clock, window: float, factor: float = 4) -> None:
        self._queue = queue
        self._clock = clock
        self._window = window
        self._factor = factor
        self._passed: dict[str, tuple[float, float]] = {}  # key -> when it passed or will, and its window

    def add(self, object_key: str) -> None:
        now = self._clock.monotonic()
        last, window = self._passed.get(object_key, (-inf, self._window))
        if now - last >= window:
            self._queue.add(object_key)
            self._passed[object_key] = (now, window)
            if len(self._passed) > 1000:
                self._passed = {k: kept for k, kept in self._passed.items() if now - kept[0] < kept[1]}
            return
        if last <= now:
            last += window
            self._passed[object_key] = (last, window)
        self._queue.add_after(object_key, last - now)

    def cost(self, object_key: str, seconds: float) -> None:
        """A look at the key took that long."""
        window = max(self._window, min(seconds * self._factor, LONGEST_WINDOW))
        last, _ = self._passed.get(object_key, (self._clock.monotonic(), window))
        self._passed[object_key] = (last, window)


def owner_key(cache: Cache, kind: str, child: Obj) -> str | None:
    """Key of the object of `cache` that controls `child`, None when it has no such controller (any more)."""
    reference = controller_of(child)
    if reference is None or reference["kind"] != kind:
        return None
    found = f"{namespace(child)}/{reference['name']}" if cache.resource.namespaced else reference["name"]
    owner = cache.get(found)
    return found if owner is not None and uid(owner) == reference["uid"] else None


async def gather_all(work: Iterable[Awaitable[object]]) -> list[BaseException]:
    """Runs everything to its end and answers the errors."""
    results = await asyncio.gather(*work, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in errors:
        if not isinstance(error, Exception):
            raise error
    return errors


async def slow_start(count: int, act: Callable[[], Awaitable[object]]) -> tuple[int, list[BaseException]]:
    """Calls `act` `count` times in batches of 1, 2, 4, … and stops after a batch with an error.

    A set whose pods cannot be created (quota, a bad template) thus costs one request a try, not hundreds. Answers how
    many succeeded, and the errors.
    """
    done, batch = 0, 1
    while done < count:
        size = min(batch, count - done)
        errors = await gather_all(act() for _ in range(size))
        done += size - len(errors)
        if errors:
            return done, errors
        batch *= 2
    return done, []


def raise_first(errors: list[BaseException]) -> None:
    """Raises the first of the errors, if there are any."""
    if errors:
        raise errors[0]
