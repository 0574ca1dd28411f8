"""Gives every node its part of the cluster's pod addresses, of each family that the cluster has. What is taken is what
nodes say they have."""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from orca.api.builtin import NODES
from orca.api.objects import Obj, is_terminating, key
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter

Network = IPv4Network | IPv6Network


class Allocator:
    """Equal parts of one network. Pure; parts are handed out in order, a part given back last."""

    def __init__(self, cluster: str, mask: int) -> None:
        """`cluster` like "10.244.0.0/16", `mask` the length of a part's prefix."""
        self.network: Network = ip_network(cluster)
        if mask < self.network.prefixlen:
            raise ValueError(f"a /{mask} does not fit into {cluster}")
        self.mask = mask
        self._step = 1 << (self.network.max_prefixlen - mask)
        self._size = 1 << (mask - self.network.prefixlen)
        self._taken: dict[int, str] = {}
        self._next = 0

    def __repr__(self) -> str:
        return f"<Allocator {self.network} in /{self.mask}: {len(self._taken)} of {self._size} taken>"

    def occupy(self, cidr: str, holder: str) -> None:
        """Notes that `holder` has `cidr`; parts outside of the network are none of ours."""
        for index in self._covered(cidr):
            self._taken.setdefault(index, holder)

    def release(self, cidr: str, holder: str) -> None:
        """Gives `cidr` back; only its holder can."""
        for index in self._covered(cidr):
            if self._taken.get(index) == holder:
                del self._taken[index]

    def allocate(self, holder: str) -> str | None:
        """The next free part; None when all are taken."""
        for offset in range(self._size):
            index = (self._next + offset) % self._size
            if index not in self._taken:
                self._taken[index] = holder
                self._next = (index + 1) % self._size
                start = self.network.network_address + index * self._step
                return f"{start}/{self.mask}"
        return None

    def _covered(self, cidr: str) -> Iterator[int]:
        found = ip_network(cidr, strict=False)
        if found.version != self.network.version or not found.overlaps(self.network):
            return
        first = max(int(found.network_address) - int(self.network.network_address), 0) // self._step
        last = (int(found.broadcast_address) - int(self.network.network_address)) // self._step
        yield from range(first, min(last, self._size - 1) + 1)


def allocators(cluster: str, *, ipv4: int, ipv6: int) -> tuple[Allocator, ...]:
    """One for each range of "10.244.0.0/16,fd00:10:244::/56", in that order; ``ipv4`` and ``ipv6`` are the lengths of
    nodes' prefixes. Raises ValueError."""
    ranges = [one.strip() for one in cluster.split(",") if one.strip()]
    found = tuple(Allocator(one, ipv6 if ":" in one else ipv4) for one in ranges)
    if len({one.network.version for one in found}) != len(found):
        raise ValueError(f"{cluster}: one IPv4 and one IPv6 range at most")
    return found


def cidrs_of(node: Obj) -> list[str]:
    """The parts a node has."""
    spec = node.get("spec") or {}
    return list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))


class NodeIpamController(Controller):
    """One worker: two nodes can never be offered the same part."""

    name = "cidrAllocator"
    resource = NODES
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        config = context.config
        self._enabled = config.allocate_node_cidrs
        self._allocators = allocators(
            config.cluster_cidr, ipv4=config.node_cidr_mask_size, ipv6=config.node_cidr_mask_size_ipv6
        )
        self._offered: dict[str, tuple[str, ...]] = {}
        self._nodes = self.caches.of(NODES)
        # All known nodes are in the allocators before the first allocation: the queue runs once caches are filled.
        self._nodes.informer.on_add(self._seen)
        self._nodes.informer.on_update(lambda _, new: self._seen(new))
        self._nodes.informer.on_delete(self._gone)

    def _seen(self, node: Obj) -> None:
        held = cidrs_of(node)
        for cidr in held:
            for allocator in self._allocators:
                allocator.occupy(cidr, key(node))
        if not held and self._enabled:
            self.enqueue(node)

    def _gone(self, node: Obj) -> None:
        for cidr in (*cidrs_of(node), *self._offered.pop(key(node), ())):
            self._release(cidr, key(node))
        self.queue.forget(key(node))

    def _release(self, cidr: str, holder: str) -> None:
        for allocator in self._allocators:
            allocator.release(cidr, holder)

    async def sync(self, key: str) -> Outcome:
        """One node."""
        node = self._nodes.get(key)
        if node is None or is_terminating(node) or cidrs_of(node):
            return DONE
        # Offered again after a failure: an answer that was lost may hide a success, so the parts stay this node's.
        cidrs = self._offered.get(key) or self._allocate(key)
        if not cidrs:
            self.recorder.event(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            return RetryAfter()
        self._offered[key] = cidrs
        version = node["metadata"]["resourceVersion"]
        change = {"metadata": {"resourceVersion": version}, "spec": {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}}
        await self._nodes.patch(node, change)
        del self._offered[key]
        return DONE

    def _allocate(self, holder: str) -> tuple[str, ...]:
        """A part of each range; none at all when one of them is used up."""
        found: list[str] = []
        for allocator in self._allocators:
            cidr = allocator.allocate(holder)
            if cidr is None:
                for one in found:
                    self._release(one, holder)
                return ()
            found.append(cidr)
        return tuple(found)
