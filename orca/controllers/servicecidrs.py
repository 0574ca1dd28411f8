"""ServiceCIDRs become ready, and stay while addresses would be left without a range.

Reference: k8s.io/kubernetes ``pkg/controller/servicecidrs`` and KEP-1880. A finalizer holds a deleted ServiceCIDR as
long as an address that a Service holds lies in no other one.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from orca.api.builtin import IPADDRESSES, SERVICECIDRS
from orca.api.finalizers import SERVICE_CIDR
from orca.api.objects import Obj, is_terminating, labels, name
from orca.api.times import parse_time
from orca.controllers import conditions
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter

GRACE_SECONDS = 10.0
"""Between a deletion and the end: servers that have not heard of it may still give out addresses of the range."""
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
_READY = "Kubernetes Service CIDR is ready"
_HELD = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
Network = IPv4Network | IPv6Network


def ranges(cidr: Obj) -> list[Network]:
    """The ranges of a ServiceCIDR."""
    return [ip_network(one) for one in cidr["spec"].get("cidrs") or ()]


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def orphan(cidr: Obj, others: Iterable[Obj], addresses: Iterable[Obj]) -> str:
    """An address that would be in no range without `cidr`; "" when there is none. `others` do not include it."""
    elsewhere = [network for other in others for network in ranges(other)]
    alone = [one for one in ranges(cidr) if not any(_within(one, other) for other in elsewhere)]
    if not alone:
        return ""
    for holder in addresses:
        if labels(holder).get(MANAGED_BY) == ALLOCATOR:
            address: IPv4Address | IPv6Address = ip_address(name(holder))
            if any(address in one for one in alone) and not any(address in other for other in elsewhere):
                return str(address)
    return ""


class ServiceCIDRController(Controller):
    """Keys are names of ServiceCIDRs."""

    name = "service-cidrs-controller"
    resource = SERVICECIDRS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._cidrs = self.caches.of(SERVICECIDRS)
        self._addresses = self.caches.of(IPADDRESSES)
        self._cidrs.informer.on_add(self._appeared)
        self._cidrs.informer.on_update(lambda _, new: self.enqueue(new))
        self._cidrs.informer.on_delete(self.enqueue)
        self._addresses.informer.on_add(self._address)
        self._addresses.informer.on_delete(self._address)

    def _appeared(self, cidr: Obj) -> None:
        self.enqueue(cidr)
        self._wake()

    def _address(self, holder: Obj) -> None:
        del holder
        self._wake()

    def _wake(self) -> None:
        """Those that wait for their end: what happened may free them."""
        for cidr in self._cidrs.all():
            if is_terminating(cidr):
                self.enqueue(cidr)

    async def sync(self, key: str) -> Outcome:
        """One ServiceCIDR."""
        cidr = self._cidrs.get(key)
        if cidr is None:
            return DONE
        if is_terminating(cidr):
            return await self._end(cidr)
        finalizers = cidr["metadata"].get("finalizers") or []
        if SERVICE_CIDR not in finalizers:
            metadata = {**cidr["metadata"], "finalizers": [*finalizers, SERVICE_CIDR]}
            cidr = await self._cidrs.update({**cidr, "metadata": metadata})
        await self._say(cidr, "True", "", _READY)
        return DONE

    async def _end(self, cidr: Obj) -> Outcome:
        finalizers = cidr["metadata"].get("finalizers") or []
        if SERVICE_CIDR not in finalizers:
            return DONE
        others = [one for one in self._cidrs.all() if name(one) != name(cidr)]
        if orphan(cidr, others, self._addresses.all()):
            await self._say(cidr, "False", "Terminating", _HELD)
            return DONE  # looked at again when an address goes or another range comes
        since = (self.clock.now() - parse_time(cidr["metadata"]["deletionTimestamp"])).total_seconds()
        if since < GRACE_SECONDS:
            return RetryAfter(GRACE_SECONDS - since)
        left = [one for one in finalizers if one != SERVICE_CIDR]
        await self._cidrs.update({**cidr, "metadata": {**cidr["metadata"], "finalizers": left}})
        return DONE

    async def _say(self, cidr: Obj, status: str, reason: str, message: str) -> None:
        held = (cidr.get("status") or {}).get("conditions")
        ready = {**conditions.build("Ready", status, reason, message, self.clock.now()), "reason": reason}
        changed = conditions.put(held, ready)
        if changed != (held or []):
            await self._cidrs.update_status(cidr, {**(cidr.get("status") or {}), "conditions": changed})
