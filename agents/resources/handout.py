"""Cpus for containers alone: the CPU manager's ``static`` policy. Pure, but for its state file.

A container of a Guaranteed pod that asks for whole cpus gets them for itself; everything else runs on the shared ones.
Reference: k8s.io/kubernetes ``pkg/kubelet/cm/cpumanager`` (policy_static, state_checkpoint).
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agents.durable import read_object, write_file
from agents.resources.amounts import containers, has_pod_level
from agents.resources.cpus import CpuSet, NotEnoughCpus, Topology, format_cpus, parse_cpus, take
from agents.resources.quality import qos_class
from orca.api.objects import Obj, uid
from orca.api.quantity import parse_cpu_milli

FILE = "cpu_manager_state"
_ONE_BY_ONE = ThreadPoolExecutor(1, "cpus")
OPTIONS = ("full-pcpus-only", "strict-cpu-reservation")


class CpuStateError(ValueError):
    """The state file does not fit this host or this configuration."""


class CpusRefused(ValueError):
    """A pod cannot have its cpus; ``reason`` is that of its status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Policy:
    """``reserved`` cpus are nobody's alone; with ``strict`` nobody's at all. ``whole_cores``: only all threads of a
    core are handed out."""

    topology: Topology
    reserved: CpuSet
    whole_cores: bool = False
    strict: bool = False

    @property
    def shareable(self) -> CpuSet:
        """What is shared while nobody has any for itself."""
        return self.topology.all - self.reserved if self.strict else self.topology.all


class CpuHandout:
    """Who has which cpus on this host; ``directory`` holds the state file."""

    def __init__(self, policy: Policy, directory: Path) -> None:
        self._policy = policy
        self._directory = directory
        self._taken: dict[str, dict[str, CpuSet]] = {}
        self._written = ""
        self._load()

    def __repr__(self) -> str:
        return f"<CpuHandout {format_cpus(self.shared)} shared>"

    @property
    def shared(self) -> CpuSet:
        """Cpus of all containers that have none for themselves."""
        taken = {cpu for by_name in self._taken.values() for cpus in by_name.values() for cpu in cpus}
        return self._policy.shareable - taken

    def allocate(self, pod: Obj) -> bool:
        """Give the containers of a pod what they are entitled to; whether anything changed. Raises CpusRefused, and
        then nothing did."""
        mine: dict[str, CpuSet] = {}
        reusable: CpuSet = frozenset()
        before = self._taken.get(uid(pod), {})
        for container, sidecar, init in _in_order(pod):
            count = whole_cpus(pod, container)
            if not count:
                continue
            name = container["name"]
            cpus = before.get(name)
            if cpus is None or len(cpus) != count:
                kept = frozenset(cpu for one in mine.values() for cpu in one) - reusable
                cpus = self._choose(count, reusable, kept | frozenset().union(*before.values()))
            mine[name] = cpus
            # An init container has ended when the next one starts: its cpus serve again.
            reusable = reusable | cpus if init and not sidecar else reusable - cpus
        if mine == before:
            return False
        if mine:
            self._taken[uid(pod)] = mine
        else:
            self._taken.pop(uid(pod), None)
        return True

    def release(self, pod_uid: str) -> bool:
        """Take back what a pod had; whether it had any."""
        return self._taken.pop(pod_uid, None) is not None

    def retain(self, pods: Collection[str]) -> bool:
        """Take back what pods other than these (uids) had; whether there were any."""
        gone = self._taken.keys() - set(pods)
        for pod_uid in gone:
            del self._taken[pod_uid]
        return bool(gone)

    def exclusive(self, pod_uid: str) -> frozenset[str]:
        """Names of a pod's containers that have cpus for themselves."""
        return frozenset(self._taken.get(pod_uid, ()))

    def cpus_of(self, pod: Obj) -> Mapping[str, str]:
        """Cpus of each container of a pod, by name, as the kernel writes them."""
        mine, shared = self._taken.get(uid(pod), {}), format_cpus(self.shared)
        spec = pod.get("spec") or {}
        names = [one["name"] for one in (*containers(pod), *(spec.get("ephemeralContainers") or ()))]
        return {name: format_cpus(mine[name]) if name in mine else shared for name in names}

    async def save(self) -> None:
        """Put it on disk, when that differs. Raises OSError."""
        text = self._text()
        if text != self._written:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(_ONE_BY_ONE, write_file, self._directory, FILE, text)
            self._written = text

    def _choose(self, count: int, reusable: CpuSet, own: CpuSet) -> CpuSet:
        policy = self._policy
        free = (self.shared - policy.reserved) - own | reusable
        threads = policy.topology.threads_per_core
        if policy.whole_cores and threads > 1:
            if count % threads:
                raise CpusRefused(
                    "SMTAlignmentError",
                    f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}",
                )
            cores: dict[int, set[int]] = {}
            for cpu in policy.topology.cpus:
                cores.setdefault(cpu.core, set()).add(cpu.id)
            whole = frozenset(cpu for members in cores.values() if members <= free for cpu in members)
            if count > len(whole):
                numbers = f"available physical CPUs = {len(whole)}, requested CPUs = {count}, CPUs per core = {threads}"
                raise CpusRefused("SMTAlignmentError", f"SMT Alignment Error: not enough free physical CPUs: {numbers}")
            free = whole
        try:
            # What init containers had comes first, so that the rest stays shared.
            first = take(policy.topology, reusable & free, min(count, len(reusable & free)))
            return first | take(policy.topology, free - first, count - len(first))
        except NotEnoughCpus:
            text = f"not enough cpus available to satisfy request: requested={count}, available={len(free)}"
            message = f"Allocate failed due to {text}, which is unexpected"
            raise CpusRefused("UnexpectedAdmissionError", message) from None

    # State

    def _text(self) -> str:
        state = {
            "policyName": "static",
            "defaultCpuSet": format_cpus(self.shared),
            "entries": {
                pod_uid: {name: format_cpus(cpus) for name, cpus in by_name.items()}
                for pod_uid, by_name in sorted(self._taken.items())
            },
        }
        return json.dumps({**state, "checksum": _checksum(state)})

    def _load(self) -> None:
        path = self._directory / FILE
        advice = f"please drain this node and delete the CPU manager checkpoint file {str(path)!r} before restarting"
        try:
            text = path.read_text()
            state = json.loads(text)
            checksum = state.pop("checksum")
            if state["policyName"] != "static":
                raise CpuStateError(f'configured policy "static" differs from state checkpoint policy: {advice}')
            if checksum != _checksum(state):
                raise CpuStateError(f"could not restore state from checkpoint: checkpoint is corrupted: {advice}")
            taken = {
                pod_uid: {name: parse_cpus(cpus) for name, cpus in by_name.items()}
                for pod_uid, by_name in (state.get("entries") or {}).items()
            }
            shared = parse_cpus(state["defaultCpuSet"])
        except FileNotFoundError:
            return
        except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            if isinstance(error, CpuStateError):
                raise
            raise CpuStateError(f"could not restore state from checkpoint: {error}: {advice}") from error
        known = shared.union(*(cpus for by_name in taken.values() for cpus in by_name.values()))
        if known != self._policy.shareable:
            raise CpuStateError(
                f'current set of available CPUs "{format_cpus(self._policy.shareable)}" doesn\'t match with CPUs in '
                f'state "{format_cpus(known)}": {advice}'
            )
        self._taken, self._written = taken, text


def whole_cpus(pod: Obj, container: Obj) -> int:
    """How many cpus a container is entitled to alone; 0 for none."""
    if has_pod_level(pod) or qos_class(pod) != "Guaranteed":
        return 0
    milli = parse_cpu_milli(((container.get("resources") or {}).get("requests") or {}).get("cpu", "0"))
    return 0 if milli % 1000 else milli // 1000


def reserved_cpus(topology: Topology, named: CpuSet, milli: int) -> CpuSet:
    """Those named one by one, or as many whole ones as ``milli`` thousandths need. Raises CpuStateError for none."""
    if named:
        if not named <= topology.all:
            raise CpuStateError(f"reservedSystemCPUs: {format_cpus(named - topology.all)} are not online")
        return named
    count = -(-milli // 1000)
    if count <= 0:
        raise CpuStateError("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")
    try:
        return take(topology, topology.all, count)
    except NotEnoughCpus as error:
        raise CpuStateError(f"unable to reserve the required amount of CPUs: {error}") from error


def other_policy(directory: Path) -> str:
    """The policy that a state file in the directory tells of; "" for none."""
    try:
        return str(read_object(directory / FILE)["policyName"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _in_order(pod: Obj) -> Iterable[tuple[Obj, bool, bool]]:
    """(container, is a sidecar, is an init container)"""
    spec = pod.get("spec") or {}
    for container in spec.get("initContainers") or ():
        yield container, container.get("restartPolicy") == "Always", True
    for container in spec.get("containers") or ():
        yield container, False, False


def _checksum(state: Obj) -> int:
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())
