"""`NetworkPolicies`: follows the API and keeps this host's table in step.

    policies = NetworkPolicies(client, namespaces, kernel=Nft(), dns=("10.96.0.10",), find=pod_by_uid, …)
    policies.follow(informer_of_this_hosts_pods)
    network = policies.guarding(network)       # what the pods room attaches pods with
    asyncio.create_task(policies.run())

Without a policy that selects a pod of this host there is no table, and of all this only policies are watched. The table
outlives the agent; the next one replaces it in one step once it knows as much as this one did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import structlog

from agents.policy.cluster import ClusterPods
from agents.policy.integrity import Integrity
from agents.policy.kernel import Kernel, KernelError
from agents.policy.local import LocalPods
from agents.policy.model import Policy, policy_of
from agents.policy.render import Ruleset, difference, removal, replacement, ruleset
from agents.policy.ruleset import Isolation, isolation
from agents.policy.shortcut import Shortcut
from orca.api.builtin import NETWORKPOLICIES
from orca.api.objects import Obj, key
from orca.client.base import Client
from orca.client.clock import Clock, SystemClock, rest
from orca.client.informer import Informer

log = structlog.get_logger()

COALESCE_SECONDS = 0.005
SPACING_SECONDS = 0.05
"""Between two changes that nobody waits for: a rollout's many are written together."""
HEAL_SECONDS = 3.0
HEAL_PAUSE_SECONDS = 1.0
"""At least so long between two looks at what somebody else has changed, however fast the kernel tells of it."""
FIRST_RETRY, LAST_RETRY = 0.5, 15.0
KNOWING_SECONDS = 5.0
"""How long a pod waits for the API to tell of policies and peers before it starts without."""


class PolicyError(Exception):
    """A pod's rules are not in the kernel, so it must not start; the text is fit for an event."""


class Recorder(Protocol):
    """``orca.client.EventRecorder``."""

    def event(self, obj: Obj, kind: str, reason: str, message: str) -> None: ...


class NetworkPolicies:
    """See the module. ``find`` answers a pod of this host by its uid; ``ports`` is how names of its pods' links begin,
    if they are ports of a bridge that need not reach each other by it; ``node`` is what events of the host are about.
    """

    def __init__(
        self,
        client: Client,
        namespaces: Informer,
        *,
        kernel: Kernel,
        dns: Sequence[str] = (),
        ports: str = "",
        find: Callable[[str], Obj | None],
        recorder: Recorder,
        node: Obj,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._kernel = kernel
        self._dns = tuple(dns)
        self._find = find
        self._recorder = recorder
        self._node = node
        self._informer = Informer(client, NETWORKPOLICIES, clock=self._clock)
        self._policies: dict[str, Policy] = {}
        self._informer.on_change(self._policy_changed)
        self._local = LocalPods(self._pods_changed)
        self._cluster = ClusterPods(client, namespaces, dns=self._dns, changed=self._touch, clock=self._clock)
        self._integrity = Integrity(kernel)
        self._shortcut = Shortcut(kernel, ports)
        self._isolation: Isolation | None = None
        self._written: Ruleset | None = None
        """What the kernel has; None: no table."""
        self._certain = False
        """Whether `_written` is so: not at first, and not after the kernel refused something."""
        self._changed = asyncio.Event()
        self._stir = asyncio.Event()
        """Something has changed, or somebody has touched the table."""
        self._knowing = asyncio.Event()
        """Policies and this host's pods are known, and whether the kernel can do it."""
        self._settled = asyncio.Event()
        self._lock = asyncio.Lock()
        self._told: set[str] = set()
        self._looked = float("-inf")
        self._touched = False
        """Whether the kernel has told of a change of the table since it was looked at."""
        self.problem = ""
        """Why policies are not enforced on this host; "" when they are."""
        self.last_sync_seconds = 0.0

    def __repr__(self) -> str:
        size = self._written.size if self._written is not None else 0
        return f"<NetworkPolicies {len(self._policies)} policies, {size} elements {self.problem}>".replace(" >", ">")

    @property
    def policies(self) -> Collection[Policy]:
        """All of the cluster."""
        return self._policies.values()

    @property
    def isolation(self) -> Isolation:
        """What follows from them for the pods of this host."""
        if self._isolation is None:
            # Where there are no policies nobody looks through all pods for each one that comes.
            self._isolation = isolation(self._policies.values(), self._local.pods() if self._policies else ())
        return self._isolation

    def follow(self, pods: Informer) -> None:
        """Hear of this host's pods from there; whoever made it runs it."""
        self._local.follow(pods)

    def guarding(self, network: Any) -> GuardedNetwork:
        """That network, with rules for a pod in the kernel before anything of the pod runs."""
        return GuardedNetwork(network, self)

    async def settled(self) -> None:
        """Returns once everything that is known so far is in the kernel."""
        await self._knowing.wait()
        while not self.problem and (self._changed.is_set() or not self._certain or self._lock.locked()):
            self._settled.clear()
            await self._settled.wait()

    # --- pods that start and end -------------------------------------------------------------------------------------

    async def admit(self, pod_uid: str, addresses: Sequence[str]) -> None:
        """Return once the kernel has the rules of a pod that got its addresses. Raises ``PolicyError``."""
        obj = self._find(pod_uid)
        if obj is None:
            return
        self._local.attach(obj, pod_uid, addresses)
        try:
            async with asyncio.timeout(KNOWING_SECONDS):
                await self._knowing.wait()
                while not self.problem and not await self._sync():
                    await self._all_known()
        except TimeoutError:
            if not self._knowing.is_set():
                log.warning("a pod starts before the server has told of policies", pod=key(obj))
                return
            # What selectors mean is not known yet: rules without it let through less, never more.
            await self._sync_for(obj, incomplete=True)
        except KernelError as error:
            self._fail_for(obj, error)

    async def _sync_for(self, obj: Obj, *, incomplete: bool) -> None:
        try:
            await self._sync(incomplete=incomplete)
        except KernelError as error:
            self._fail_for(obj, error)

    def _fail_for(self, obj: Obj, error: KernelError) -> None:
        pods = [pod for pod in self._local.pods() if pod.key == key(obj)]
        if any(policy.selects(pod) for policy in self._policies.values() for pod in pods):
            raise PolicyError(f"network policy rules could not be written: {error}") from error

    def release(self, pod_uid: str) -> None:
        """Nothing of the pod runs any more."""
        self._local.detach(pod_uid)

    def keep_only(self, live: Collection[str]) -> None:
        """Nothing runs of pods other than these."""
        self._local.keep_only(live)

    # --- following ---------------------------------------------------------------------------------------------------

    def _policy_changed(self, obj: Obj) -> None:
        policy_key = key(obj)
        self._policies.pop(policy_key, None)
        present = self._informer.get(policy_key)
        if present is not None:
            try:
                self._policies[policy_key] = policy_of(present)
            except (KeyError, TypeError, ValueError) as error:
                # The API lets nothing of the kind pass; still, one bad object must not stop all others.
                log.error("a NetworkPolicy cannot be understood", policy=policy_key, error=repr(error))
        self._pods_changed()

    def _pods_changed(self) -> None:
        self._isolation = None
        self._touch()

    def _touch(self) -> None:
        self._changed.set()
        self._stir.set()

    def _table_touched(self) -> None:
        self._touched = True
        self._stir.set()

    async def run(self) -> None:
        """Until cancelled; the table stays when it ends."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informer.run(), name="informer networkpolicies")
                group.create_task(self._keep())
        finally:
            self._cluster.close()
            self._kernel.close()

    async def _keep(self) -> None:
        await self._informer.synced()
        await self._local.synced()
        self.problem = await self._kernel.problem()
        self._knowing.set()
        self._changed.set()
        retry = FIRST_RETRY
        while True:
            try:
                if self.problem:
                    self._tell_of_problem()
                elif await self._sync():
                    retry = FIRST_RETRY
                else:
                    await self._all_known()
                    continue
                self._settled.set()
                await self._wait()
            except KernelError as error:
                log.error("network policy rules could not be written", error=str(error))
                self._recorder.event(self._node, "Warning", "NetworkPolicyFailed", str(error))
                await self._clock.sleep(retry)
                retry = min(retry * 2, LAST_RETRY)

    async def _wait(self) -> None:
        """Until something changed; looks whether the table still is as it was written, from time to time and when the
        kernel tells that it may not be."""
        await self._clock.sleep(SPACING_SECONDS)
        while not self._changed.is_set():
            due = self._looked + (HEAL_PAUSE_SECONDS if self._touched else HEAL_SECONDS)
            now = self._clock.monotonic()
            if now < due:
                await rest(self._clock, due - now, self._stir)
                self._stir.clear()
            else:
                self._looked, self._touched = now, False
                self._cluster.tidy()
                await self._heal()
        await self._clock.sleep(COALESCE_SECONDS)

    async def _heal(self) -> None:
        async with self._lock:
            if self._written is None or self.problem or not self._certain:
                return
            await self._shortcut.close(anew=False)
            harm = await self._integrity.harm(self._written, self._clock.monotonic())
            if harm:
                log.warning("network policy rules were changed by somebody else and are put back", what=harm)
                self._certain = False
                self._touch()

    # --- into the kernel ---------------------------------------------------------------------------------------------

    async def _sync(self, *, incomplete: bool = False) -> bool:
        """Write what differs. False: first this host's pods and those of the cluster have to be known, nothing was
        written; with ``incomplete`` it is written without them. Raises ``KernelError``."""
        async with self._lock:
            if self._certain and not self._changed.is_set():
                return True
            if not self._local.known and not incomplete:
                return False
            wanted = self.isolation
            needed = wanted.pod_sets
            self._cluster.need(bool(needed))
            if needed and not self._cluster.known and not incomplete:
                return False
            began = self._clock.monotonic()
            self._changed.clear()
            index = self._cluster.index
            index.want(needed)
            new = ruleset(wanted, index, self._dns) if wanted.dispatch else None
            try:
                await self._write(new)
            except BaseException:
                self._certain = False
                self._touch()
                raise
            self._written, self._certain = new, True
            self.last_sync_seconds = self._clock.monotonic() - began
            self._settled.set()
            return True

    async def _all_known(self) -> None:
        if not self._local.known:
            await self._local.synced()
            self._isolation = None  # it was of what had been known before
        await self._cluster.synced()

    async def _write(self, new: Ruleset | None) -> None:
        if new is None:
            commands = "" if self._certain and self._written is None else removal()
        elif self._certain and self._written is not None:
            commands = difference(self._written, new)
        else:
            commands = replacement(new)
        if not commands:
            return
        if new is None:
            self._kernel.close()
            await self._shortcut.leave(anew=not self._certain)
        else:
            self._kernel.listen(self._table_touched)
            await self._shortcut.close(anew=not self._certain)
        await self._kernel.apply(commands)
        if new is not None:
            await self._integrity.note(self._written if self._certain else None, new)
        log.debug("network policy rules written", lines=commands.count("\n"))

    def _tell_of_problem(self) -> None:
        self._changed.clear()
        if not self._policies:
            return
        text = f"NetworkPolicies are not enforced on host {self._node.get('name')}: {self.problem}"
        if not self._told:
            log.error("NetworkPolicies are not enforced on this host", reason=self.problem)
            self._recorder.event(self._node, "Warning", "NetworkPolicyNotEnforced", text)
        for name in {policy for chain in self.isolation.chains for policy in chain.policies} - self._told:
            self._told.add(name)
            if (obj := self._informer.get(name)) is not None:
                self._recorder.event(obj, "Warning", "NetworkPolicyNotEnforced", text)
        self._told.add("")


class GuardedNetwork:
    """The pods room's ``Network``, in front of another one."""

    def __init__(self, network: Any, policies: NetworkPolicies) -> None:
        self._network = network
        self._policies = policies

    def __repr__(self) -> str:
        return f"<GuardedNetwork {self._network!r}>"

    async def attach(self, pod_uid: str, netns_pid: int, **how: Any) -> list[str]:
        """As the network's; raises ``PolicyError``, too. Nothing of the pod runs before it returns."""
        addresses: list[str] = await self._network.attach(pod_uid, netns_pid, **how)
        await self._policies.admit(pod_uid, addresses)
        return addresses

    async def detach(self, pod_uid: str) -> None:
        """As the network's."""
        # First, for afterwards the address may be another pod's.
        self._policies.release(pod_uid)
        await self._network.detach(pod_uid)

    async def reconcile(self, live: Collection[str]) -> None:
        """As the network's."""
        self._policies.keep_only(live)
        await self._network.reconcile(live)
