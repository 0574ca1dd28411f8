"""Quotas: counted from what exists and what was just admitted."""

import pytest

from orca.admission import Attributes
from orca.admission.resource_quota import ResourceQuota
from orca.api.builtin import CONFIGMAPS, PODS, RESOURCEQUOTAS, SERVICES
from orca.api.errors import ApiError
from orca.api.quota.amounts import pod_total
from orca.auth import UserInfo
from tests.unit.auth.fakes import FixedClock, Reader, made


class Ticking(FixedClock):
    seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def world():
    reader, clock = Reader(), Ticking()
    return reader, clock, ResourceQuota(reader, clock)


def quota(reader, hard, **spec):
    reader.put(RESOURCEQUOTAS, made("v1", "ResourceQuota", "q", "d", spec={"hard": hard, **spec}))


def pod(who, cpu="", **spec):
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    return made("v1", "Pod", who, "d", spec={"containers": [{"name": "c", "resources": resources}], **spec})


async def attempt(plugin, obj, resource=PODS, *, old=None):
    operation = "UPDATE" if old else "CREATE"
    await plugin.validate(Attributes(operation, resource, "d", obj["metadata"]["name"], obj, old, UserInfo("a")))


async def refused(plugin, obj, resource=PODS, *, old=None):
    with pytest.raises(ApiError) as caught:
        await attempt(plugin, obj, resource, old=old)
    assert caught.value.code == 403
    return caught.value.message.partition("is forbidden: ")[2]


async def test_no_quota_no_limit(world):
    _, _, plugin = world
    await attempt(plugin, pod("a"))


async def test_what_exists_counts(world):
    reader, _, plugin = world
    quota(reader, {"pods": "1"})
    reader.put(PODS, pod("a"))
    assert await refused(plugin, pod("b")) == "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    done = pod("a")
    done["status"] = {"phase": "Succeeded"}
    reader.put(PODS, done)
    await attempt(plugin, pod("b"))


async def test_many_at_once_do_not_pass_together(world):
    reader, clock, plugin = world
    quota(reader, {"pods": "2"})
    await attempt(plugin, pod("a"))
    await attempt(plugin, pod("b"))
    await refused(plugin, pod("c"))
    reader.put(PODS, pod("a"))
    await refused(plugin, pod("c"))
    clock.seconds = 11.0
    await attempt(plugin, pod("c"))


async def test_compute_must_be_said_and_fits(world):
    reader, _, plugin = world
    quota(reader, {"requests.cpu": "1"})
    assert await refused(plugin, pod("a")) == "failed quota: q: must specify requests.cpu for: c"
    reader.put(PODS, pod("a", "600m"))
    assert await refused(plugin, pod("b", "500m")) == (
        "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    )
    await attempt(plugin, pod("b", "400m"))


async def test_scopes(world):
    reader, _, plugin = world
    quota(reader, {"pods": "0"}, scopes=["BestEffort"])
    await refused(plugin, pod("a"))
    await attempt(plugin, pod("a", "1"))


async def test_counts_of_any_kind_and_growth_of_services(world):
    reader, _, plugin = world
    quota(reader, {"count/configmaps": "0", "services.nodeports": "1"})
    await refused(plugin, made("v1", "ConfigMap", "c", "d"), CONFIGMAPS)
    old = made("v1", "Service", "s", "d", spec={"type": "NodePort", "ports": [{"port": 1}]})
    reader.put(SERVICES, old)
    same = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    await attempt(plugin, same, SERVICES, old=old)
    more = made("v1", "Service", "s", "d", spec={"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]})
    await refused(plugin, more, SERVICES, old=old)


def test_a_pod_needs_its_worst_moment():
    def container(cpu, **more):
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    init = [container("2"), container("100m", restartPolicy="Always"), container("500m")]
    spec = {"initContainers": init, "containers": [container("1"), container("300m")], "overhead": {"cpu": "50m"}}
    requests, limits = pod_total({"spec": spec})
    assert str(requests["cpu"]) == "2050m"
    assert limits == {}
