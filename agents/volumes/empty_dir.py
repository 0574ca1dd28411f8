"""emptyDir: a directory of the host, of memory, or of huge pages.

Reference: k8s.io/kubernetes ``pkg/volume/emptydir``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agents import mounts
from agents.pods.containers import init_containers, main_containers
from agents.pods.environment import Place
from agents.pods.ports import Mounted
from agents.threads import to_the_end
from agents.volumes.errors import VolumeError
from agents.volumes.ownership import give_to_group
from agents.volumes.plugin import Places, fs_group
from orca.api.objects import Obj
from orca.api.quantity import Quantity, parse_int

PLUGIN = "empty-dir"
MODE = 0o777
HUGE_PAGES = "HugePages"
HUGE_PAGE_RESOURCE = "hugepages-"


class EmptyDir:
    """``place`` tells what the host can hand out: memory without another limit may take as much."""

    follows_api = False

    def __init__(self, places: Places, place: Callable[[Obj], Place]) -> None:
        self._places = places
        self._place = place

    async def make(self, pod: Obj, name: str, source: Obj) -> Mounted:
        return Mounted(str(await to_the_end(self._make, pod, name, source or {})))

    def _make(self, pod: Obj, name: str, source: Obj) -> Path:
        path = self._places.on_disk(pod, PLUGIN, name)
        ready = self._places.note(pod, PLUGIN, name)
        medium = source.get("medium") or ""
        in_memory = medium == "Memory" or medium.startswith(HUGE_PAGES)
        if medium and not in_memory:
            raise VolumeError(f'unknown storage medium "{medium}"')
        # Told by a note: what a container has changed since the volume was ready must stay as it is.
        if ready.exists() and (os.path.ismount(path) if in_memory else path.is_dir()):
            return path
        path.mkdir(mode=MODE, parents=True, exist_ok=True)
        if medium == "Memory" and not os.path.ismount(path):
            allocatable = self._place(pod).allocatable
            mounts.mount_tmpfs(path, mode=MODE, size=memory_size(pod, source, allocatable))
        elif in_memory and not os.path.ismount(path):
            mounts.mount_huge_pages(path, page_size=huge_page_size(pod, medium), mode=MODE)
        os.chmod(path, MODE)
        group = fs_group(pod)
        if group is not None:
            # Whatever fsGroupChangePolicy says: it is not for volumes that live as long as their pod.
            give_to_group(path, group)
        ready.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        ready.touch()
        return path


def memory_size(pod: Obj, source: Obj, allocatable: Mapping[str, str]) -> int:
    """Bytes a volume of memory may take: the least of its own limit, the pod's, and what the node hands out; 0 when
    none of them is known."""
    limits = [parse_int(allocatable["memory"])] if allocatable.get("memory") else []
    limits += [_memory_limit(pod), parse_int(source.get("sizeLimit") or "0")]
    return min((limit for limit in limits if limit > 0), default=0)


def _memory_limit(pod: Obj) -> int:
    """The pod's own limit, or that of all its containers together; 0 when one of them has none."""
    own = ((pod["spec"].get("resources") or {}).get("limits") or {}).get("memory")
    if own is not None:
        return parse_int(own)
    mains, inits = [_limit(one) for one in main_containers(pod)], [_limit(one) for one in init_containers(pod)]
    if not all((*mains, *inits)):
        return 0
    sidecars, peak = 0, 0
    for container, limit in zip(init_containers(pod), inits, strict=True):
        if container.get("restartPolicy") == "Always":
            sidecars += limit
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + limit)
    return max(sum(mains) + sidecars, peak)


def _limit(container: Obj) -> int:
    return parse_int(((container.get("resources") or {}).get("limits") or {}).get("memory") or "0")


def huge_page_size(pod: Obj, medium: str) -> int:
    """Bytes of a page: ``HugePages-2Mi`` says it, for ``HugePages`` the pod's requests must name one size alone.

    Raises VolumeError.
    """
    wanted = Quantity.parse(medium.removeprefix(f"{HUGE_PAGES}-")).integer if medium != HUGE_PAGES else None
    sizes = {Quantity.parse(name.removeprefix(HUGE_PAGE_RESOURCE)).integer for name in _huge_requests(pod)}
    if wanted is None and len(sizes) > 1:
        raise VolumeError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    if not sizes or (wanted is not None and wanted not in sizes):
        raise VolumeError(
            f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    return sizes.pop() if wanted is None else wanted


def _huge_requests(pod: Obj) -> Iterable[str]:
    for subject in (pod["spec"], *main_containers(pod), *init_containers(pod)):
        for name in (subject.get("resources") or {}).get("requests") or {}:
            if name.startswith(HUGE_PAGE_RESOURCE):
                yield name
