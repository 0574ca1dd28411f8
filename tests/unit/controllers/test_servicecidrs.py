"""ServiceCIDRs: ready once seen, and held while addresses would be left without a range."""

from orca.api import strategy
from orca.api.builtin import IPADDRESSES, SERVICECIDRS
from orca.api.finalizers import SERVICE_CIDR
from orca.api.objects import Obj
from orca.controllers.servicecidrs import ALLOCATOR, GRACE_SECONDS, MANAGED_BY, ServiceCIDRController, orphan
from tests.unit.controllers.support import running_one


def cidr(name: str, *ranges: str) -> Obj:
    return {"metadata": {"name": name}, "spec": {"cidrs": list(ranges)}}


def address(name: str, by: str = ALLOCATOR) -> Obj:
    return {"metadata": {"name": name, "labels": {MANAGED_BY: by}}, "spec": {}}


def test_an_address_is_orphaned_when_no_other_range_has_it() -> None:
    first, more = cidr("a", "10.1.0.0/24"), cidr("b", "10.1.0.0/24", "fd00::/112")
    assert orphan(first, [], [address("10.1.0.7")]) == "10.1.0.7"
    assert orphan(first, [], [address("10.1.0.7", "somebody"), address("10.2.0.7")]) == ""
    assert orphan(first, [more], [address("10.1.0.7")]) == ""
    assert orphan(more, [first], [address("10.1.0.7"), address("fd00::7")]) == "fd00::7"
    assert orphan(first, [cidr("wide", "10.0.0.0/8")], [address("10.1.0.7")]) == ""
    assert orphan(first, [cidr("half", "10.1.0.0/25")], [address("10.1.0.7")]) == ""
    assert orphan(first, [cidr("half", "10.1.0.0/25")], [address("10.1.0.200")]) == "10.1.0.200"


async def test_it_is_ready_and_stays_while_its_addresses_are_used() -> None:
    async with running_one(ServiceCIDRController) as (cluster, _):
        cluster.api.seed(SERVICECIDRS, cidr("more", "10.1.0.0/24"))
        cluster.api.seed(IPADDRESSES, address("10.1.0.7"))
        await cluster.settle(1)
        (found,) = cluster.api.objects(SERVICECIDRS)
        assert found["metadata"]["finalizers"] == [SERVICE_CIDR]
        (ready,) = found["status"]["conditions"]
        assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "True", "")
        assert strategy.validate_update(SERVICECIDRS, found, found, "status") == []
        await cluster.api.delete(SERVICECIDRS, "more")
        await cluster.settle(GRACE_SECONDS + 1)
        (found,) = cluster.api.objects(SERVICECIDRS)
        (ready,) = found["status"]["conditions"]
        assert (ready["status"], ready["reason"]) == ("False", "Terminating")
        await cluster.api.delete(IPADDRESSES, "10.1.0.7")
        await cluster.settle(GRACE_SECONDS + 1)
        assert cluster.api.objects(SERVICECIDRS) == []


async def test_a_range_around_it_frees_it_after_the_grace() -> None:
    async with running_one(ServiceCIDRController) as (cluster, _):
        cluster.api.seed(SERVICECIDRS, cidr("more", "10.1.0.0/24"))
        cluster.api.seed(IPADDRESSES, address("10.1.0.7"))
        await cluster.settle(1)
        await cluster.api.delete(SERVICECIDRS, "more")
        await cluster.settle(1)
        cluster.api.seed(SERVICECIDRS, cidr("wide", "10.0.0.0/8"))
        await cluster.settle(1)
        assert len(cluster.api.objects(SERVICECIDRS)) == 2
        await cluster.settle(GRACE_SECONDS)
        assert [one["metadata"]["name"] for one in cluster.api.objects(SERVICECIDRS)] == ["wide"]
