"""Registers the host as a Node and keeps the object's status true."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from agents.node import csinode, facts, model
from agents.node.addresses import OwnAddresses
from agents.node.model import Image, NodeOptions, Observation
from agents.node.transitions import cordoning, reboot, transitions
from orca.api.builtin import NODES
from orca.api.errors import ApiError, is_already_exists, is_not_found
from orca.api.objects import Obj, uid
from orca.client.base import Client
from orca.client.clock import Clock, rest

RETRY_SECONDS = 2.0
PROBE_SECONDS = 5.0
ENGINE_PATIENCE_SECONDS = 30.0
"""How long an engine may be silent until the node is not ready, as with a kubelet."""
START_PATIENCE_SECONDS = 30.0
"""How long a part of the agent may take to begin until the node is not ready for it."""
ENGINE_DOWN = "container runtime is down"
NOT_KNOWN = "container runtime status check may not have completed yet"

log = structlog.get_logger()

Problem = Callable[[], str | None]
"""Asked at every look: "" when all is well, else why pods cannot run here now; None when that is not known yet."""


class NodeReporter:
    """Observes the host every ``update_seconds``; writes when something changed, and every ``report_seconds`` anyway.

    `engine_version` answers the engine's version or raises OSError-like failures while it is down; `images` lists what
    the engine has, `runtimes` names what it can run containers with. All are given 5 s: a hung engine is one that is
    down. `pressure` names the conditions of eviction that hold, None while that is not known. `tell` is given events
    about the node: whether it is a warning, reason and message. `addresses` are looked at each time; without, those of
    the options are what the node has.
    """

    def __init__(
        self,
        client: Client,
        options: NodeOptions,
        *,
        root: Path,
        clock: Clock,
        engine_version: Callable[[], Awaitable[str]],
        images: Callable[[], Awaitable[Sequence[Image]]],
        runtimes: Callable[[], Awaitable[Sequence[str]]],
        problems: Sequence[Problem] = (),
        pressure: Callable[[], Collection[str] | None] = tuple,
        tell: Callable[[bool, str, str], None] = lambda warning, reason, message: None,
        addresses: OwnAddresses | None = None,
        update_seconds: float = 10.0,
        report_seconds: float = 300.0,
    ) -> None:
        self._client = client
        self._options = options
        self._clock = clock
        self._engine_version = engine_version
        self._images = images
        self._runtimes = runtimes
        self._problems = problems
        self._pressure = pressure
        self._tell = tell
        self._addresses = addresses
        self._update_seconds = update_seconds
        self._report_seconds = report_seconds
        self._engine_answered_at: float | None = None
        self._facts = facts.read_facts(root)
        self._cordoned = False
        self._begun = False
        self._unknown_since: float | None = None
        self._written: Obj | None = None
        self._written_at: datetime | None = None
        self._introduced = ""  # the uid of the Node that has its CSINode
        self._poked = asyncio.Event()
        self.registered = asyncio.Event()
        self.engine = ""
        """`docker://<version>` as last seen."""

    def __repr__(self) -> str:
        return f"<NodeReporter {self._options.name}>"

    def poke(self) -> None:
        """Look again now: something that the status tells has changed."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        if not self._begun:
            self._begun = True
            self._tell(False, "Starting", "Starting kubelet.")
        while True:
            try:
                await self.report()
                pause = self._update_seconds
                await self._introduce()
            except ApiError as error:
                log.warning("cannot report the node's status", node=self._options.name, error=error.message)
                pause = RETRY_SECONDS
            await self._pause(pause)

    async def _introduce(self) -> None:
        """See that the Node has its CSINode. What goes wrong with that, as in somebody's webhook, keeps no node from
        being ready; it is tried again at the next look."""
        node = self._written
        if node is None or uid(node) == self._introduced:
            return
        try:
            await csinode.ensure(self._client, node)
            self._introduced = uid(node)
        except ApiError as error:
            log.warning("the CSINode could not be made", node=self._options.name, error=error.message)

    async def report(self) -> None:
        """One look, and a write when it is needed. Raises ApiError."""
        if self._addresses is not None:
            self._options = replace(self._options, addresses=await self._addresses.look())
        observed = await self._observe()
        now = self._clock.now()
        if self._written is None:
            self._written = await self._register(observed, now)
            self._written_at = now
            self.registered.set()
        else:
            # What the server has now: others write it too, as the node controller does while this host is cut off.
            self._written = await self._current()
        self._tell_cordon(self._written)
        if self._too_early(observed):
            # A new Node is not Ready; one that was Ready before this agent started stays so until more is known, as
            # all pods of a node that is not Ready lose their traffic.
            return
        previous = self._written.get("status") or {}
        wanted = model.status(self._options, self._facts, observed, previous=previous, now=now)
        changed = _differs(wanted, previous)
        overdue = self._written_at is None or (now - self._written_at).total_seconds() >= self._report_seconds
        if not (changed or overdue):
            return
        self._written = await self._client.patch(
            NODES, self._options.name, {"status": _replacing(wanted, previous)}, kind="strategic", subresource="status"
        )
        self._tell_changes(previous, wanted)
        self._written_at = now

    def _tell_changes(self, before: Obj, after: Obj) -> None:
        for told in transitions(self._options.name, before.get("conditions") or (), after.get("conditions") or ()):
            self._tell(False, *told)
        rebooted = reboot(self._options.name, before, after)
        if rebooted:
            self._tell(True, *rebooted)

    def _too_early(self, observed: Observation) -> bool:
        """True when something was not known yet that may keep pods from running here; not for ever."""
        if NOT_KNOWN not in observed.problems:
            self._unknown_since = None
            return False
        now = self._clock.monotonic()
        if self._unknown_since is None:
            self._unknown_since = now
        return now - self._unknown_since < START_PATIENCE_SECONDS

    def _tell_cordon(self, node: Obj) -> None:
        cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        if cordoned != self._cordoned:
            self._cordoned = cordoned
            self._tell(False, *cordoning(self._options.name, cordoned=cordoned))

    async def _current(self) -> Obj:
        try:
            return await self._client.get(NODES, self._options.name)
        except ApiError as error:
            if is_not_found(error):
                # Removed while we run; the host is still here, so it registers again at the next look.
                log.warning("the Node object is gone; registering again", node=self._options.name)
                self._written = None
            raise

    async def _register(self, observed: Observation, now: datetime) -> Obj:
        """The Node as the server has it, created when it was missing and with our labels in place."""
        if not self._options.register:
            return await self._client.get(NODES, self._options.name)
        try:
            node = await self._client.create(NODES, model.new_node(self._options, self._facts, observed, now))
            log.info("registered", node=self._options.name)
            self._tell_changes({}, node.get("status") or {})
            return node
        except ApiError as error:
            if not is_already_exists(error):
                raise
        node = await self._client.get(NODES, self._options.name)
        labels = model.default_labels(self._options, self._facts)
        have = node["metadata"].get("labels") or {}
        if any(have.get(key) != value for key, value in labels.items()):
            node = await self._client.patch(NODES, self._options.name, {"metadata": {"labels": labels}}, kind="merge")
        log.info("the node was registered before", node=self._options.name)
        return node

    async def _observe(self) -> Observation:
        answers = [problem() for problem in self._problems]
        problems = [NOT_KNOWN if answer is None else answer for answer in answers if answer != ""]
        engine, images = "", [Image(tuple(i["names"]), i["sizeBytes"]) for i in self._last_images()]
        runtimes: tuple[str, ...] = ()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                engine = f"docker://{await self._engine_version()}"
                self.engine = engine
                images = list(await self._images())
                runtimes = tuple(await self._runtimes())
        except Exception as error:
            # Whatever an engine in trouble does, the answer here is the same: it is down.
            log.debug("the engine does not answer", error=str(error) or type(error).__name__)
            problems[:0] = self._about_engine()
        else:
            self._engine_answered_at = self._clock.monotonic()
        pressure = self._present_pressure()
        return Observation(engine=engine, runtimes=runtimes, images=images, problems=problems, pressure=pressure)

    def _about_engine(self) -> list[str]:
        """What an engine that does not answer means for the node: nothing yet, when it did just now."""
        if self._engine_answered_at is None:
            return [NOT_KNOWN]
        silent = self._clock.monotonic() - self._engine_answered_at
        return [ENGINE_DOWN] if silent >= ENGINE_PATIENCE_SECONDS else []

    def _present_pressure(self) -> Collection[str]:
        """Until the first look is over, what the server was told before is as good as anything."""
        present = self._pressure()
        if present is not None:
            return present
        status = (self._written or {}).get("status") or {}
        return [one["type"] for one in status.get("conditions") or () if one.get("status") == "True"]

    def _last_images(self) -> Sequence[Obj]:
        status = (self._written or {}).get("status") or {}
        return status.get("images") or []

    async def _pause(self, seconds: float) -> None:
        await rest(self._clock, seconds, self._poked)
        self._poked.clear()


def _differs(wanted: Obj, previous: Obj) -> bool:
    """True when a field of ours is not as wanted; conditions are compared by type, whatever their order."""

    def comparable(status: Obj) -> Obj:
        plain = model.without_heartbeats({key: status.get(key) for key in wanted})
        plain["conditions"] = {condition["type"]: condition for condition in plain["conditions"]}
        plain["images"] = plain.get("images") or []
        return plain

    return comparable(wanted) != comparable(previous)


def _replacing(status: Obj, previous: Obj) -> Obj:
    """The status as a patch. Addresses merge by their type, of which a host of both families has one twice: the whole
    list is replaced, as kubelets have it done. What can no longer be asked for is taken away by name."""
    return {
        **status,
        "addresses": [*status.get("addresses", ()), {"$patch": "replace"}],
        "allocatable": {**dict.fromkeys(previous.get("allocatable") or {}), **status.get("allocatable", {})},
    }
