"""Cgroups of this host's pods: made before a pod's first container, resized with it, gone with it.

The two that hold all Burstable and all BestEffort pods share out cpu between the classes: the first weighs as much as
its pods ask for together, the second as little as possible. Reference: k8s.io/kubernetes ``pkg/kubelet/cm``
(qos_container_manager, pod_container_manager, node_container_manager).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field

import structlog

from agents.resources.amounts import requests_of
from agents.resources.limits import MINIMUM_SHARES, Limits, Rules, container_huge_pages, pod_limits, shares_of
from agents.resources.paths import Driver, Layout, Name
from agents.resources.quality import qos_class
from agents.resources.tree import PATIENCE, Tree, busy
from orca.api.objects import Obj, uid
from orca.client.clock import Clock

GATHER_SECONDS = 0.2
"""Pods come in bursts; their class's cgroup is written once for all of them."""
RETRY_SECONDS = 60.0
FIRST_PAUSE, LAST_PAUSE = 0.005, 0.1
_CLASSES = ("Burstable", "BestEffort")

log = structlog.get_logger()

Detect = Callable[[], Awaitable[tuple[str, str]]]
"""Answers the engine's cgroup driver and the version of the tree; fails while the engine is away."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What was configured. ``whole`` are the limits of all pods together; ``reserved`` those of cgroups (by path) that
    hold what is not a pod. ``kill_together``: running out of memory ends the whole container (version 2)."""

    root: str = ""
    by_quality: bool = True
    rules: Rules = field(default_factory=Rules)
    whole: Limits = field(default_factory=Limits)
    reserved: tuple[tuple[str, Limits], ...] = ()
    kill_together: bool = True


class Cgroups:
    """``tell`` makes an event about the node (warning or not, reason, message)."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        tell: Callable[[bool, str, str], None] = lambda warning, reason, message: None,
        make_tree: Callable[[Layout], Tree] = Tree,
    ) -> None:
        self.settings = settings
        self.exclusive: Callable[[Obj], bool] = lambda pod: False
        """Whether a pod has cpus of its own."""
        self._detect: Detect | None = None
        self._pods: Callable[[], Iterable[Obj]] = tuple
        self._clock = clock
        self._tell = tell
        self._make_tree = make_tree
        self._tree: Tree | None = None
        self._opening = asyncio.Lock()
        self._opened = asyncio.Event()
        self._changed = asyncio.Event()
        self._known: dict[str, Name] = {}
        """Cgroups that were made, by uid of their pods."""
        self._shares = 0

    def __repr__(self) -> str:
        return f"<Cgroups of {len(self._known)} pods>"

    @property
    def layout(self) -> Layout | None:
        """Names of cgroups; None until the engine has answered once."""
        return self._tree.layout if self._tree is not None else None

    def serve(self, detect: Detect, pods: Callable[[], Iterable[Obj]]) -> None:
        """Who asks the engine, and who answers what runs on this host, with the cpu and memory allotted."""
        self._detect, self._pods = detect, pods
        self._changed.set()

    # For pods

    async def prepare(self, pod: Obj) -> str:
        """Have the pod's cgroup with its limits; the ``CgroupParent`` of its containers. Raises OSError."""
        if not self.settings.by_quality:
            return self.settings.root
        tree = await self._open()
        name = tree.layout.pod_name(pod)
        if uid(pod) not in self._known:
            await asyncio.to_thread(tree.create, name, self.limits_of(pod))
            self._known[uid(pod)] = name
            self._changed.set()
        return tree.layout.parent(name)

    async def spare_parent(self) -> str:
        """``CgroupParent`` of pause containers made before there is a pod for them."""
        if not self.settings.by_quality:
            return self.settings.root
        return (await self._open()).layout.spare_parent()

    def limits_of(self, pod: Obj) -> Limits:
        """What a pod's cgroup should have."""
        return pod_limits(pod, self.settings.rules, exclusive=self.exclusive(pod))

    async def current(self, pod: Obj) -> tuple[Limits, int] | None:
        """Quota and memory limit of a pod's cgroup as the kernel has them, and the bytes in use; None when it has no
        cgroup. Raises OSError."""
        if not self.settings.by_quality:
            return None
        tree = await self._open()
        return await asyncio.to_thread(tree.read, tree.layout.pod_name(pod))

    async def change(self, pod: Obj, limits: Limits) -> None:
        """Give a pod's cgroup other limits, those that are not None. Raises OSError."""
        if self.settings.by_quality:
            tree = await self._open()
            await asyncio.to_thread(tree.change, tree.layout.pod_name(pod), limits)
            self._changed.set()

    async def started(self, pod: Obj, container: Obj, container_id: str) -> None:
        """Give a container that was just started what the engine cannot be told of it. Raises OSError."""
        if not self.settings.rules.page_sizes and not self.settings.kill_together:
            return
        tree = await self._open()
        limits = (
            container_huge_pages(pod, container, self.settings.rules) if "hugetlb" in tree.controllers else Limits()
        )
        together = self.settings.kill_together and tree.layout.version == 2
        if limits.huge_pages or together:
            path = tree.layout.container_cgroup(pod, container_id)
            await asyncio.to_thread(tree.change_container, path, limits, kill_together=together)

    async def remove(self, pod: Obj) -> None:
        """Kill what is left in the pod's cgroup, and remove it. Harmless when there is none. Raises OSError."""
        if not self.settings.by_quality:
            return
        tree = await self._open()
        known = self._known.get(uid(pod))
        if known is not None:
            await self._remove(tree, known)
        else:
            # Made by an agent before this one; of a pod that is gone there may be nothing left that tells its class.
            await self._remove_any(tree, uid(pod))
        self._known.pop(uid(pod), None)
        self._changed.set()

    async def reconcile(self, live: Callable[[], Collection[str]]) -> None:
        """Remove what belongs to none of the pods (uids) that ``live`` answers, processes included. Raises OSError."""
        if not self.settings.by_quality:
            return
        tree = await self._open()
        found = await asyncio.to_thread(_present, tree)
        # Asked after looking: a cgroup that was seen belongs to a pod that was known by then, or to none.
        for pod_uid in found - set(live()):
            log.info("removing the cgroup of a pod that is gone", pod=pod_uid)
            await self._remove_any(tree, pod_uid)

    async def _remove(self, tree: Tree, name: Name) -> None:
        """Waits without a thread: fifty pods may end at once."""
        deadline, pause = self._clock.monotonic() + PATIENCE, FIRST_PAUSE
        while not await asyncio.to_thread(tree.try_remove, name):
            if self._clock.monotonic() > deadline:
                raise busy(tree.layout.path(name))
            await self._clock.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE)

    async def _remove_any(self, tree: Tree, pod_uid: str) -> None:
        for quality in ("Guaranteed", *_CLASSES):
            name = (*tree.layout.quality_name(quality), f"pod{pod_uid}")
            if await asyncio.to_thread(tree.is_anywhere, name):
                await self._remove(tree, name)

    # The whole

    async def run(self) -> None:
        """Limit all pods together, and keep the limits of classes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._enforce(), name="limits of all pods")
            group.create_task(self._follow(), name="cgroups of classes")

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._clock.sleep(GATHER_SECONDS)
            if self._tree is None or not self.settings.by_quality:
                continue
            shares = shares_of(sum(requests_of(pod).get("cpu", 0) for pod in self._pods() if _is_burstable(pod)))
            if shares == self._shares:
                continue
            try:
                name = self._tree.layout.quality_name("Burstable")
                await asyncio.to_thread(self._tree.change, name, Limits(cpu_shares=shares))
                self._shares = shares
            except OSError as error:
                log.warning("cgroup of the Burstable pods cannot be changed", error=str(error))

    def poke(self) -> None:
        """Pods came or went, or ask for other amounts."""
        self._changed.set()

    async def _enforce(self) -> None:
        """Limit all pods together, and what was configured beside them; tried again until it works."""
        if not self.settings.by_quality:
            return
        await self._opened.wait()
        tree = await self._open()
        while True:
            try:
                await asyncio.to_thread(tree.change, tree.layout.pods_name, self.settings.whole)
                break
            except OSError as error:
                # More memory is in use than they may have: eviction has to bring it down first.
                path = tree.layout.path(tree.layout.pods_name)
                self._tell(
                    True,
                    "FailedNodeAllocatableEnforcement",
                    f'Failed to update Node Allocatable Limits "{path}": {error}',
                )
                await self._clock.sleep(RETRY_SECONDS)
        self._tell(False, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
        for path, limits in self.settings.reserved:
            name = Layout(tree.layout.driver, tree.layout.version, path).root_name
            try:
                await asyncio.to_thread(tree.change, name, limits)
            except OSError as error:
                text = f'Failed to enforce reserved cgroup limits on "{path}": {error}'
                self._tell(True, "FailedNodeAllocatableEnforcement", text)
            else:
                self._tell(False, "NodeAllocatableEnforced", f"Updated limits on reserved cgroup {path}")

    async def _open(self) -> Tree:
        async with self._opening:
            if self._tree is None:
                assert self._detect is not None, "nobody serves the engine"
                driver, version = await self._detect()
                layout = Layout(Driver(driver), int(version), self.settings.root, self.settings.by_quality)
                tree = self._make_tree(layout)
                if self.settings.by_quality:
                    await asyncio.to_thread(self._found, tree)
                self._tree = tree
                self._opened.set()
                self._changed.set()
        return self._tree

    def _found(self, tree: Tree) -> None:
        """Have the cgroups of all pods and of the two lower classes."""
        if not tree.exists(tree.layout.pods_name):
            # Limits of memory come with `enforce`: it knows what to do when they do not hold.
            tree.create(tree.layout.pods_name, Limits(cpu_shares=self.settings.whole.cpu_shares))
        for quality in _CLASSES:
            least = Limits(cpu_shares=MINIMUM_SHARES if quality == "BestEffort" else None)
            tree.create(tree.layout.quality_name(quality), least)


def _present(tree: Tree) -> set[str]:
    return {pod_uid for quality in ("Guaranteed", *_CLASSES) for pod_uid in tree.pods(quality)}


def _is_burstable(pod: Obj) -> bool:
    return qos_class(pod) == "Burstable"
