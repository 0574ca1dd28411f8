"""Quotas: what is admitted is counted in the write itself, so nobody passes between looking and writing."""

import asyncio

import pytest

from orca.admission import Attributes
from orca.admission.first_look import BELIEVED_SECONDS, FirstLook
from orca.admission.limit_ranger import LimitRanger
from orca.admission.resource_quota import ResourceQuota
from orca.api.builtin import CONFIGMAPS, EVENTS, LIMITRANGES, PODS, RESOURCEQUOTAS, SERVICES
from orca.api.errors import ApiError
from orca.api.quota.amounts import pod_total
from orca.auth import UserInfo
from orca.client.clock import VirtualClock
from orca.store import Raced
from tests.unit.auth.fakes import Reader, made


class World(Reader):
    """A store whose writes are compared as etcd's are."""

    looks = 0
    late = None

    async def fresh(self):
        self.looks += 1
        if self.late is not None:
            self.late()

    def put(self, resource, obj):
        obj["metadata"]["resourceVersion"] = str(self.revision + 1)
        return super().put(resource, obj)

    async def write(self, resource, obj, also):
        for one in also:
            if self.peek(one.resource, one.namespace, one.name)["metadata"]["resourceVersion"] != str(one.revision):
                raise Raced(one)
        for one in also:
            self.put(one.resource, {**one.obj, "metadata": dict(one.obj["metadata"])})
        self.put(resource, obj)


@pytest.fixture
def world():
    reader = World()
    return reader, ResourceQuota(reader)


def quota(reader, hard, **spec):
    reader.put(RESOURCEQUOTAS, made("v1", "ResourceQuota", "q", "d", spec={"hard": hard, **spec}))


def pod(who, cpu="", **spec):
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    return made("v1", "Pod", who, "d", spec={"containers": [{"name": "c", "resources": resources}], **spec})


async def attempt(world, obj, resource=PODS, *, old=None, dry_run=False):
    reader, plugin = world
    operation = "UPDATE" if old else "CREATE"
    who = obj["metadata"]["name"]
    attrs = Attributes(operation, resource, "d", who, obj, old, UserInfo("a"), dry_run=dry_run)
    await plugin.validate(attrs)
    if not dry_run:
        await plugin.guard(attrs, lambda also: reader.write(resource, obj, also))


def used(reader):
    return reader.peek(RESOURCEQUOTAS, "d", "q")["status"]["used"]


async def refused(world, obj, resource=PODS, *, old=None, dry_run=False):
    with pytest.raises(ApiError) as caught:
        await attempt(world, obj, resource, old=old, dry_run=dry_run)
    assert caught.value.code == 403
    return caught.value.message.partition("is forbidden: ")[2]


async def test_no_quota_no_limit(world):
    await attempt(world, pod("a"))


async def test_what_exists_counts_and_what_is_gone_does_not(world):
    reader, _ = world
    quota(reader, {"pods": "1"})
    await attempt(world, pod("a"))
    assert used(reader) == {"pods": "1"}
    assert await refused(world, pod("b")) == "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    done = pod("a")
    done["status"] = {"phase": "Succeeded"}
    reader.put(PODS, done)
    await attempt(world, pod("b"))
    assert used(reader) == {"pods": "1"}


async def test_a_dry_run_is_refused_and_takes_nothing(world):
    reader, _ = world
    quota(reader, {"pods": "1"})
    await attempt(world, pod("a"), dry_run=True)
    await attempt(world, pod("b"))
    await refused(world, pod("c"), dry_run=True)


async def test_who_was_overtaken_looks_again(world):
    reader, plugin = world
    quota(reader, {"pods": "2"})
    tries = []

    async def overtaken(also):
        tries.append(also)
        if len(tries) == 1:  # another server admits two pods between our look and our write
            for who in ("x", "y"):
                reader.put(PODS, pod(who))
            reader.put(RESOURCEQUOTAS, {**reader.peek(RESOURCEQUOTAS, "d", "q"), "status": {"used": {"pods": "2"}}})
        await reader.write(PODS, pod("a"), also)

    with pytest.raises(ApiError, match="used: pods=2"):
        await plugin.guard(Attributes("CREATE", PODS, "d", "a", pod("a"), None, UserInfo("a")), overtaken)
    assert len(tries) == 1


async def test_what_no_quota_counts_waits_for_nobody(world):
    """Such as the events that are written with the bindings of pods."""
    reader, plugin = world
    quota(reader, {"count/configmaps": "9", "pods": "9"})
    order = []

    def guarded(resource, who, operation="CREATE", subresource=""):
        async def write(also):
            order.append(who)
            await asyncio.sleep(0)
            order.append(who)

        obj, before = pod(who), pod(who) if operation == "UPDATE" else None
        attrs = Attributes(operation, resource, "d", who, obj, before, UserInfo("a"), subresource=subresource)
        return plugin.guard(attrs, write)

    await asyncio.gather(guarded(EVENTS, "a"), guarded(EVENTS, "b"))
    assert order == ["a", "b", "a", "b"]
    order.clear()
    await asyncio.gather(guarded(PODS, "a", "UPDATE", "status"), guarded(PODS, "b", "UPDATE", "status"))
    assert order == ["a", "b", "a", "b"]
    order.clear()
    await asyncio.gather(guarded(CONFIGMAPS, "a"), guarded(CONFIGMAPS, "b"))
    assert order == ["a", "a", "b", "b"]


async def test_compute_must_be_said_and_fits(world):
    reader, _ = world
    quota(reader, {"requests.cpu": "1"})
    assert await refused(world, pod("a")) == "failed quota: q: must specify requests.cpu for: c"
    reader.put(PODS, pod("a", "600m"))
    assert await refused(world, pod("b", "500m")) == (
        "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    )
    await attempt(world, pod("b", "400m"))


async def test_scopes(world):
    reader, _ = world
    quota(reader, {"pods": "0"}, scopes=["BestEffort"])
    await refused(world, pod("a"))
    await attempt(world, pod("a", "1"))


async def test_counts_of_any_kind_and_growth_of_services(world):
    reader, _ = world
    quota(reader, {"count/configmaps": "0", "services.nodeports": "1"})
    await refused(world, made("v1", "ConfigMap", "c", "d"), CONFIGMAPS)
    old = made("v1", "Service", "s", "d", spec={"type": "NodePort", "ports": [{"port": 1}]})
    reader.put(SERVICES, old)
    same = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    await attempt(world, same, SERVICES, old=old)
    more = made("v1", "Service", "s", "d", spec={"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]})
    await refused(world, more, SERVICES, old=old)


def test_a_pod_needs_its_worst_moment():
    def container(cpu, **more):
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    init = [container("2"), container("100m", restartPolicy="Always"), container("500m")]
    spec = {"initContainers": init, "containers": [container("1"), container("300m")], "overhead": {"cpu": "50m"}}
    requests, limits = pod_total({"spec": spec})
    assert str(requests["cpu"]) == "2050m"
    assert limits == {}


async def test_a_quota_that_another_server_was_told_of_counts_for_the_first_write(world):
    reader, _ = world
    reader.late = lambda: quota(reader, {"pods": "0"})
    with pytest.raises(ApiError, match="exceeded quota"):
        await attempt(world, pod("a"))


async def test_a_namespace_without_quotas_is_believed_in_for_a_while():
    reader, clock = World(), VirtualClock()
    world = reader, ResourceQuota(reader, FirstLook(reader, clock))
    for who in "abc":
        await attempt(world, pod(who))
    assert reader.looks == 1
    await clock.advance(BELIEVED_SECONDS)
    await attempt(world, pod("d"))
    assert reader.looks == 2


async def test_limits_that_another_server_was_told_of_hold_for_the_first_pod():
    reader = World()
    limits = [{"type": "Container", "default": {"cpu": "1"}}]
    reader.late = lambda: reader.put(LIMITRANGES, made("v1", "LimitRange", "l", "d", spec={"limits": limits}))
    given = pod("a")
    await LimitRanger(reader).admit(Attributes("CREATE", PODS, "d", "a", given, None, UserInfo("a")))
    assert given["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1"}
