"""LoadBalancer without a cloud: pools, addresses, who announces, and what Services show of it."""

import asyncio

import pytest

from orca.api.builtin import CONFIGMAPS, ENDPOINTSLICES, EVENTS, LEASES, NODES, SERVICES
from orca.api.objects import Obj
from orca.api.times import format_micro
from orca.controllers.loadbalancers import LoadBalancerController
from orca.controllers.loadbalancers.addresses import ANNOUNCED_BY, CLEANUP, NoAddressError, choose, holders
from orca.controllers.loadbalancers.announcers import EXCLUDED, Host, announcer, local_hosts
from orca.controllers.loadbalancers.pools import Pool, PoolsError, parse_pools
from tests.unit.controllers.support import Cluster, running_one

POOLS = """
- name: office
  addresses: [192.0.2.10-192.0.2.12, "2001:db8::10-2001:db8::11"]
- name: shop
  addresses: [198.51.100.0/30]
  autoAssign: false
  namespaces: [shop]
  nodeSelector: {rack: a}
"""


def service(
    name: str = "web", *ips: str, namespace: str = "default", notes: dict[str, str] | None = None, **spec: object
) -> Obj:
    made: Obj = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "creationTimestamp": f"2026-01-01T00:00:0{len(name) % 10}Z",
            "annotations": notes or {},
        },
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}], "ipFamilies": ["IPv4"], **spec},
        "status": {"loadBalancer": {}},
    }
    if ips:
        made["status"]["loadBalancer"] = {"ingress": [{"ip": ip} for ip in ips]}
    return made


def pick(
    found: Obj, *others: Obj, pools: tuple[Pool, ...] | None = None, hosts: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    return choose(found, parse_pools(POOLS) if pools is None else pools, holders([found, *others]), hosts)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{a: b}", "must be a list"),
        ("- [", "not YAML"),
        ("- {name: a}", "pools[0].addresses: at least one range is required"),
        ("- {name: A, addresses: [10.0.0.1]}", "pools[0].name: must be a lowercase RFC 1123 label"),
        (
            "- {name: a, addresses: [10.0.0.9-10.0.0.1]}",
            "pools[0].addresses[0]: '10.0.0.9-10.0.0.1': the first address",
        ),
        ("- {name: a, addresses: [10.0.0.1-fd00::1]}", "both ends must be of one family"),
        ("- {name: a, addresses: [10.0.0.0/33]}", "pools[0].addresses[0]"),
        ("- {name: a, addresses: [127.0.0.1]}", "127.0.0.1 is no address that hosts can have"),
        ("- {name: a, addresses: [10.0.0.1], autoAssing: false}", 'pools[0]: unknown field "autoAssing"'),
        ("- {name: a, addresses: [10.0.0.1], nodeSelector: {a b: c}}", "pools[0].nodeSelector"),
        ("- {name: a, addresses: [10.0.0.1]}\n- {name: a, addresses: [10.0.0.2]}", 'there is another pool "a"'),
        ("- {name: a, addresses: [10.0.0.0/24]}\n- {name: b, addresses: [10.0.0.9]}", "overlaps"),
        ("- {name: a, addresses: [10.96.1.0/24]}", "overlaps 10.96.0.0/16, the range of Services"),
    ],
)
def test_pools_that_cannot_be_are_refused_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(PoolsError) as refused:
        parse_pools(text, {"10.96.0.0/16": "the range of Services"})
    assert problem in str(refused.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(PoolsError, match=r"pools\[0\].name.*pools\[1\].addresses"):
        parse_pools("- {name: _, addresses: [10.0.0.1]}\n- {name: b, addresses: [x]}")


def test_a_service_gets_the_first_free_address_and_keeps_it() -> None:
    assert pick(service()) == ("192.0.2.10",)
    assert pick(service(), service("other", "192.0.2.10")) == ("192.0.2.11",)
    assert pick(service("web", "192.0.2.12")) == ("192.0.2.12",)
    assert pick(service("web", "203.0.113.9")) == ("203.0.113.9",), "its pool is gone, its clients are not"
    assert pick(service(), hosts=frozenset({"192.0.2.10"})) == ("192.0.2.11",)


def test_of_two_with_one_address_the_younger_gets_another() -> None:
    older, younger = service("web", "192.0.2.10"), service("other", "192.0.2.10")
    assert pick(older, younger) == ("192.0.2.10",)
    assert pick(younger, older) == ("192.0.2.11",)


@pytest.mark.parametrize(
    "note", ["orca.io/load-balancer-ips", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"]
)
def test_an_address_may_be_asked_for(note: str) -> None:
    assert pick(service(notes={note: "192.0.2.12"})) == ("192.0.2.12",)
    assert pick(service(loadBalancerIP="192.0.2.11")) == ("192.0.2.11",)
    both = service(
        ipFamilies=["IPv6", "IPv4"], ipFamilyPolicy="RequireDualStack", notes={note: "192.0.2.12,2001:db8::11"}
    )
    assert pick(both) == ("2001:db8::11", "192.0.2.12")


def test_two_families() -> None:
    families = ["IPv4", "IPv6"]
    assert pick(service(ipFamilies=families, ipFamilyPolicy="RequireDualStack")) == ("192.0.2.10", "2001:db8::10")
    only = parse_pools("- {name: a, addresses: [192.0.2.10]}")
    assert pick(service(ipFamilies=families, ipFamilyPolicy="PreferDualStack"), pools=only) == ("192.0.2.10",)
    with pytest.raises(NoAddressError, match="no IPv6 address is free"):
        pick(service(ipFamilies=families, ipFamilyPolicy="RequireDualStack"), pools=only)


def test_a_pool_may_be_asked_for_and_is_for_its_namespaces() -> None:
    note = {"orca.io/load-balancer-pool": "shop"}
    assert pick(service(namespace="shop", notes=note)) == ("198.51.100.0",)
    assert pick(service(namespace="shop")) == ("192.0.2.10",)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (service(notes={"orca.io/load-balancer-pool": "shop"}), 'pool "shop" is not for namespace "default"'),
        (service(notes={"orca.io/load-balancer-pool": "nix"}), 'there is no pool "nix"'),
        (service(loadBalancerIP="192.0.2.99"), "192.0.2.99 is in no pool"),
        (service(loadBalancerIP="192.0.2.11", notes={"orca.io/load-balancer-ips": "192.0.2.12"}), "different"),
        (service(notes={"orca.io/load-balancer-ips": "nix"}), '"nix" is not an IP address'),
        (service(notes={"orca.io/load-balancer-ips": "192.0.2.11,192.0.2.12"}), "more than one address of a family"),
        (service(loadBalancerIP="2001:db8::10"), "but is of IPv4 only"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told(found: Obj, why: str) -> None:
    with pytest.raises(NoAddressError, match=why):
        pick(found)


def test_a_taken_address_and_an_empty_pool() -> None:
    others = [service(f"{index}" * (index + 1), f"192.0.2.{10 + index}") for index in range(3)]
    with pytest.raises(NoAddressError, match=r"no IPv4 address is free in office \(192.0.2.10-192.0.2.12"):
        pick(service(), *others)
    with pytest.raises(NoAddressError, match=r"192\.0\.2\.11 is in use"):
        pick(service(loadBalancerIP="192.0.2.11"), *others)


HOSTS = [Host(f"host-{index}", True, {"rack": "ab"[index % 2]}, 0.0) for index in range(6)]


def where(current: str = "", silent: float = 0.0, hosts: list[Host] = HOSTS, **more: object) -> str:
    return announcer("192.0.2.10", hosts, current, silent=silent, **more)  # type: ignore[arg-type]


def test_one_host_announces_and_goes_on_as_long_as_it_can() -> None:
    first = where()
    assert first == where()
    assert all(where(host.name) == host.name for host in HOSTS)
    others = [host for host in HOSTS if host.name != first]
    assert where(first, hosts=others) == where(hosts=others) != first


def test_a_silent_host_is_replaced_by_one_that_was_heard() -> None:
    assert where("host-1", 7.9) == "host-1"
    assert where("host-1", 8.0) != "host-1"
    dying = [Host(host.name, True, host.labels, 0.0 if host.name == "host-4" else 20.0) for host in HOSTS]
    assert where("host-1", 9.0, dying) == "host-4"
    deaf = [Host(host.name, True, host.labels, 20.0) for host in HOSTS]
    assert where("host-1", 20.0, deaf) == "host-1"
    assert where("", 0.0, deaf) != ""


def test_only_hosts_that_may() -> None:
    assert where(local=["host-3"]) == "host-3"
    assert where("host-1", local=[]) == ""
    assert where("host-1", selector={"rack": "a"}) in ("host-0", "host-2", "host-4")
    unable = [Host(host.name, False, host.labels, 0.0) for host in HOSTS]
    assert where("host-1", hosts=unable) == ""


def test_addresses_spread_and_a_host_that_goes_moves_only_its_own() -> None:
    ips = [f"192.0.2.{index}" for index in range(200)]
    before = {ip: announcer(ip, HOSTS, "", silent=0) for ip in ips}
    after = {ip: announcer(ip, HOSTS[1:], "", silent=0) for ip in ips}
    assert min(list(before.values()).count(host.name) for host in HOSTS) > 15
    assert all(after[ip] == host for ip, host in before.items() if host != "host-0")


def test_local_hosts_are_those_with_ready_endpoints() -> None:
    def one(node: str, ready: bool, serving: bool = True, terminating: bool = False) -> Obj:
        return {"nodeName": node, "conditions": {"ready": ready, "serving": serving, "terminating": terminating}}

    assert local_hosts([{"endpoints": [one("a", True), one("b", False, True, True)]}]) == ["a"]
    assert local_hosts([{"endpoints": [one("a", False, False), one("b", False, True, True)]}]) == ["b"]


# --- running ---------------------------------------------------------------------------------------------------------


def _node(cluster: Cluster, name: str, **labels: str) -> None:
    ready = {"type": "Ready", "status": "True"}
    made = {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"conditions": [ready]}}
    cluster.api.seed(NODES, made)
    cluster.api.seed(LEASES, {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {}})


async def _beat(cluster: Cluster, name: str) -> None:
    patch = {"spec": {"renewTime": format_micro(cluster.clock.now())}}
    await cluster.api.patch(LEASES, name, patch, "kube-node-lease")


def _pools(cluster: Cluster, text: str = POOLS) -> None:
    cluster.api.seed(
        CONFIGMAPS, {"metadata": {"name": "load-balancer", "namespace": "kube-system"}, "data": {"pools": text}}
    )


def _events(cluster: Cluster) -> list[str]:
    return [f"{event['reason']}: {event['message']}" for event in cluster.api.objects(EVENTS)]


async def _now(cluster: Cluster, name: str = "web") -> tuple[list[str], str | None, bool]:
    found = await cluster.api.get(SERVICES, name, "default")
    ingress = found["status"]["loadBalancer"].get("ingress") or []
    notes = found["metadata"].get("annotations") or {}
    return (
        [entry["ip"] for entry in ingress],
        notes.get(ANNOUNCED_BY),
        CLEANUP in (found["metadata"].get("finalizers") or ()),
    )


async def test_without_pools_services_are_left_alone() -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        assert await _now(cluster) == ([], None, False)
        _pools(cluster)
        await cluster.settle(1)
        assert await _now(cluster) == (["192.0.2.10"], "host-1", True)
        found = await cluster.api.get(SERVICES, "web", "default")
        assert found["status"]["loadBalancer"]["ingress"] == [
            {"ip": "192.0.2.10", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}
        ]
        await cluster.settle(1)
        told = _events(cluster)
        assert "EnsuringLoadBalancer: Ensuring load balancer" in told
        assert "EnsuredLoadBalancer: Ensured load balancer" in told
        assert 'NodeAssigned: announcing from node "host-1"' in told


@pytest.mark.parametrize("spec", [{"loadBalancerClass": "example.com/other"}, {"type": "ClusterIP"}])
async def test_other_classes_and_types_are_somebody_elses(spec: Obj) -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _pools(cluster)
        cluster.api.seed(SERVICES, service(**spec))
        await cluster.settle(1)
        assert await _now(cluster) == ([], None, False)


async def test_another_type_gives_the_address_back_to_one_that_waits() -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _pools(cluster, "- {name: one, addresses: [192.0.2.10]}")
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        cluster.api.seed(SERVICES, service("late"))
        await cluster.settle(2)
        assert await _now(cluster, "late") == ([], "", True)
        assert any("no IPv4 address is free in one" in text for text in _events(cluster))
        await cluster.api.patch(SERVICES, "web", {"spec": {"type": "NodePort"}}, "default")
        await cluster.settle(2)
        assert await _now(cluster) == ([], None, False)
        assert await _now(cluster, "late") == (["192.0.2.10"], "host-1", True)
        assert "Type: LoadBalancer -> NodePort" in _events(cluster)
        await cluster.api.delete(SERVICES, "late", "default")
        await cluster.settle(2)
        assert [found["metadata"]["name"] for found in cluster.api.objects(SERVICES)] == ["web"]
        assert "DeletedLoadBalancer: Deleted load balancer" in _events(cluster)


async def test_addresses_move_when_a_host_falls_silent_and_only_then() -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _node(cluster, "host-2")
        _pools(cluster)
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        _, first, _ = await _now(cluster)
        assert first is not None
        other = {"host-1": "host-2", "host-2": "host-1"}[first]
        for _ in range(15):
            await _beat(cluster, first)
            await _beat(cluster, other)
            await cluster.settle(2)
        assert (await _now(cluster))[1] == first
        for _ in range(2):
            await _beat(cluster, other)
            await cluster.settle(2)
        assert (await _now(cluster))[1] == first, "six seconds may be an agent that starts again"
        await _beat(cluster, other)
        await cluster.settle(2.1)
        assert (await _now(cluster))[1] == other
        await _beat(cluster, first)
        await _beat(cluster, other)
        await cluster.settle(1)
        assert (await _now(cluster))[1] == other, "it does not move back"


async def test_a_host_that_is_there_while_its_agent_starts_again_keeps_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = [True]

    async def answers(node: Obj) -> bool:
        return there[0]

    monkeypatch.setattr("orca.controllers.loadbalancers.controller.answers", answers)
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _node(cluster, "host-2")
        _pools(cluster)
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        _, first, _ = await _now(cluster)
        assert first is not None
        other = {"host-1": "host-2", "host-2": "host-1"}[first]

        async def seconds(count: int) -> None:
            for _ in range(count):
                await _beat(cluster, other)
                await cluster.settle(1)

        await seconds(12)
        assert (await _now(cluster))[1] == first
        await _beat(cluster, first)
        await seconds(12)
        there[0] = False
        await seconds(2)
        assert (await _now(cluster))[1] == other, "then it is gone after all"


async def test_a_lost_host_is_asked_once_for_all_that_it_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def answers(node: Obj) -> bool:
        asked.append(node["metadata"]["name"])
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr("orca.controllers.loadbalancers.controller.answers", answers)
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _pools(cluster)
        for number in range(3):
            cluster.api.seed(SERVICES, service(f"web-{number}"))
        await cluster.settle(1)
        _node(cluster, "host-2")
        for _ in range(10):
            await _beat(cluster, "host-2")
            await cluster.settle(1)
        assert {(await _now(cluster, f"web-{number}"))[1] for number in range(3)} == {"host-2"}
        assert asked == ["host-1"]


async def test_an_excluded_host_hands_over_at_once() -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _pools(cluster)
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        _node(cluster, "host-2")
        await cluster.api.patch(NODES, "host-1", {"metadata": {"labels": {EXCLUDED: ""}}})
        await cluster.settle(0.1)
        assert (await _now(cluster))[1] == "host-2"


async def test_policy_local_is_announced_where_an_endpoint_is() -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _node(cluster, "host-2")
        _pools(cluster)
        cluster.api.seed(SERVICES, service(externalTrafficPolicy="Local"))
        await cluster.settle(1)
        assert await _now(cluster) == (["192.0.2.10"], "", True)
        piece = {"metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}}
        cluster.api.seed(
            ENDPOINTSLICES, {**piece, "endpoints": [{"nodeName": "host-2", "conditions": {"ready": True}}]}
        )
        await cluster.settle(0.1)
        assert (await _now(cluster))[1] == "host-2"
        await cluster.api.patch(ENDPOINTSLICES, "web-1", {"endpoints": [{"nodeName": "host-1"}]}, "default")
        await cluster.settle(0.1)
        assert (await _now(cluster))[1] == "host-1"


async def test_pools_that_cannot_be_used_leave_those_of_before_in_force() -> None:
    async with running_one(LoadBalancerController) as (cluster, _):
        _node(cluster, "host-1")
        _pools(cluster)
        await cluster.settle(1)
        await cluster.api.patch(CONFIGMAPS, "load-balancer", {"data": {"pools": "- {name: x}"}}, "kube-system")
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        assert (await _now(cluster))[0] == ["192.0.2.10"]
        (told,) = [text for text in _events(cluster) if text.startswith("InvalidConfiguration")]
        assert "pools[0].addresses: at least one range is required" in told
