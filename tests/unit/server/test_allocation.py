"""Addresses and ports of Services: by the families of the cluster, and through changes of type and of families."""

from copy import deepcopy
from ipaddress import ip_network

import pytest

from orca.api import strategy
from orca.api.builtin import IPADDRESSES, SERVICECIDRS, SERVICES
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.server.allocation import ServiceAllocator
from orca.server.holdings import NODE_PORTS
from orca.server.repair import Finding
from tests.unit.auth.fakes import Reader, made

DUAL = "10.96.0.0/16,fd00:96::/108"
PORTS = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]


class Cluster:
    """Services as the API writes them: defaults, allocation, validation, and what was written is held."""

    def __init__(self, cidrs: str = DUAL) -> None:
        self.reader = Reader()
        self.services = ServiceAllocator(self.reader, cidrs, (30000, 32767))  # type: ignore[arg-type]
        self.old: Obj | None = None

    def create(self, **spec: object) -> Obj:
        service = made("v1", "Service", "s", "d", spec={"ports": deepcopy(PORTS), **spec})
        return self._write(service, None)

    def change(self, **fields: object) -> Obj:
        """A merge patch of the spec: None removes."""
        assert self.old is not None
        service = deepcopy(self.old)
        for field, value in fields.items():
            service["spec"][field] = deepcopy(value)
            if value is None:
                del service["spec"][field]
        return self._write(service, self.old)

    def _write(self, service: Obj, old: Obj | None) -> Obj:
        strategy.apply_defaults(SERVICES, service)
        if old is None:
            strategy.prepare_create(SERVICES, service)
        else:
            strategy.prepare_update(SERVICES, service, old, "")
        with self.services.assigned(service, old):
            if old is None:
                problems = strategy.validate_create(SERVICES, service)
            else:
                problems = strategy.validate_update(SERVICES, service, old, "")
        if problems:
            raise ApiError(422, "Invalid", "; ".join(map(str, problems)))
        self.old = service
        return service["spec"]  # type: ignore[no-any-return]


def refused(call, *args, **spec) -> str:
    with pytest.raises(ApiError) as caught:
        call(*args, **spec)
    assert caught.value.code == 422
    return caught.value.message


@pytest.mark.parametrize(
    ("cidrs", "spec", "text"),
    [
        (
            "10.96.0.0/16",
            {"ipFamilyPolicy": "RequireDualStack"},
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack '
            "services",
        ),
        (
            "10.96.0.0/16",
            {"ipFamilies": ["IPv6"]},
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            "10.96.0.0/16",
            {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"},
            'spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (DUAL, {"ipFamilies": ["IPv4", "IPv6"]}, "when multiple IP families are specified"),
        ("10.96.0.0/16", {"clusterIP": "fd00:96::5"}, "IPv6 is not configured on this cluster"),
        (DUAL, {"clusterIP": "10.97.0.1"}, "does not match the current range"),
    ],
)
def test_a_family_the_cluster_does_not_have_is_refused(cidrs, spec, text):
    assert text in refused(Cluster(cidrs).create, **spec)


def test_dual_stack_by_preference_gets_what_there_is():
    assert Cluster("10.96.0.0/16").create(ipFamilyPolicy="PreferDualStack")["ipFamilies"] == ["IPv4"]
    both = Cluster().create(ipFamilyPolicy="PreferDualStack")
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    first, second = both["clusterIPs"]
    assert both["clusterIP"] == first
    assert first.startswith("10.96.")
    assert second.startswith("fd00:96::")


@pytest.mark.parametrize(
    ("cidrs", "spec", "families", "policy"),
    [
        (DUAL, {}, ["IPv4"], "SingleStack"),
        ("fd00:96::/108,10.96.0.0/16", {}, ["IPv6"], "SingleStack"),
        (DUAL, {"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack"),
        (DUAL, {"clusterIP": "fd00:96::5"}, ["IPv6"], "SingleStack"),
        (DUAL, {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"}, ["IPv6", "IPv4"], "RequireDualStack"),
        (DUAL, {"clusterIP": "None", "selector": {"a": "b"}}, ["IPv4"], "SingleStack"),
        (DUAL, {"clusterIP": "None"}, ["IPv4", "IPv6"], "RequireDualStack"),
        ("10.96.0.0/16", {"clusterIP": "None"}, ["IPv4", "IPv6"], "RequireDualStack"),
        ("10.96.0.0/16", {"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}, ["IPv4"], "SingleStack"),
    ],
)
def test_families_follow_from_what_was_said(cidrs, spec, families, policy):
    found = Cluster(cidrs).create(**spec)
    assert (found["ipFamilies"], found["ipFamilyPolicy"]) == (families, policy)
    if found["clusterIP"] != "None":
        assert ["IPv6" if ":" in ip else "IPv4" for ip in found["clusterIPs"]] == families


def test_an_address_of_the_wrong_family_is_refused():
    spec = {"ipFamilies": ["IPv6"], "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]}
    assert "expected an IPv6 value as indicated by `ipFamilies[0]`" in refused(Cluster().create, **spec)


def test_upgrade_and_downgrade():
    cluster = Cluster()
    first = cluster.create()["clusterIP"]
    both = cluster.change(ipFamilyPolicy="PreferDualStack")
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert both["clusterIPs"][0] == first
    assert cluster.change(selector={"a": "b"})["clusterIPs"] == both["clusterIPs"]
    text = refused(cluster.change, ipFamilies=["IPv4"], clusterIPs=[first])
    assert "must be 'SingleStack' to release the secondary" in text
    assert "spec.ipFamilies[0]" in refused(cluster.change, ipFamilies=["IPv6", "IPv4"])
    assert "spec.clusterIPs[1]" in refused(cluster.change, clusterIPs=[first, "fd00:96::9"])
    single = cluster.change(ipFamilyPolicy="SingleStack")
    assert (single["ipFamilies"], single["clusterIPs"]) == (["IPv4"], [first])


def test_a_cluster_that_becomes_dual_leaves_services_as_they_are():
    old = Cluster("10.96.0.0/16")
    before = old.create(ipFamilyPolicy="PreferDualStack")
    new = Cluster()
    new.old = old.old
    assert new.change(selector={"a": "b"})["clusterIPs"] == before["clusterIPs"]
    assert len(new.change(ipFamilyPolicy="RequireDualStack")["clusterIPs"]) == 2


def node_ports(spec: Obj) -> list[int]:
    return [port.get("nodePort", 0) for port in spec["ports"]]


def test_every_type_turns_into_every_other():
    types = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
    for before in types:
        for after in types:
            cluster = Cluster()
            name = {"externalName": "example.com"}
            start = cluster.create(type=before, **(name if before == "ExternalName" else {}))
            spec = cluster.change(type=after, **(name if after == "ExternalName" else {"externalName": None}))
            assert bool(spec.get("clusterIP")) == (after != "ExternalName"), (before, after)
            assert all(node_ports(spec)) == (after in ("NodePort", "LoadBalancer")), (before, after)
            assert any(node_ports(spec)) == (after in ("NodePort", "LoadBalancer")), (before, after)
            if {before, after} <= {"NodePort", "LoadBalancer"}:
                assert node_ports(spec) == node_ports(start)
            if "ExternalName" not in (before, after):
                assert spec["clusterIP"] == start["clusterIP"]


def test_node_ports_go_by_names_and_those_asked_for_are_respected():
    cluster = Cluster()
    first, second = node_ports(cluster.create(type="NodePort"))
    assert node_ports(cluster.change(ports=[{"name": "https", "port": 8443}])) == [second]
    ports = [{"name": "https", "port": 8443}, {"name": "http", "port": 80, "nodePort": first}]
    assert node_ports(cluster.change(ports=ports)) == [second, first]


def test_a_load_balancer_without_node_ports():
    cluster = Cluster()
    assert node_ports(cluster.create(type="LoadBalancer", allocateLoadBalancerNodePorts=False)) == [0, 0]
    asked = [{"name": "http", "port": 80, "nodePort": 30080}]
    assert node_ports(cluster.change(ports=asked)) == [30080]
    assert node_ports(cluster.change(allocateLoadBalancerNodePorts=True, ports=PORTS))[1]
    kept = node_ports(cluster.change(allocateLoadBalancerNodePorts=False))
    assert all(kept), "what is there stays until somebody takes it out"


def test_the_health_check_port_follows_the_policy():
    cluster = Cluster()
    spec = cluster.create(type="LoadBalancer", externalTrafficPolicy="Local", allocateLoadBalancerNodePorts=False)
    port = spec["healthCheckNodePort"]
    assert port
    assert cluster.change(healthCheckNodePort=None)["healthCheckNodePort"] == port
    assert "field is immutable" in refused(cluster.change, healthCheckNodePort=30001)
    assert "healthCheckNodePort" not in cluster.change(externalTrafficPolicy="Cluster")
    assert cluster.change(externalTrafficPolicy="Local")["healthCheckNodePort"]
    assert "healthCheckNodePort" not in cluster.change(type="ClusterIP")


def test_every_spelling_of_an_address_has_one_holder():
    cluster = Cluster()
    spec = {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}
    for spelling in ("fd00:96::a", "fd00:96::A", "fd00:96:0::000a"):
        cluster.create(clusterIP=spelling, **spec)
        claims = cluster.services.claims(cluster.old, None)
        assert [claim.name for claim in claims] == ["fd00:96::a"]
    other = made("v1", "Service", "other", "d", spec={"clusterIPs": ["fd00:96::a"]})
    for also in cluster.services.claims(other, None):
        assert also.obj is not None
        cluster.reader.put(also.resource, also.obj)
    assert "already allocated" in refused(cluster.create, clusterIP="fd00:96::000A", **spec)


@pytest.mark.parametrize(
    ("port", "problem"),
    [(22, "not in the valid range. The range of valid ports is 30000-32767"), (30080, "already allocated")],
)
def test_a_health_check_port_is_a_free_one_of_the_range(port: int, problem: str):
    """Every host listens there: one outside could be any program's."""
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports}
    assert problem in refused(Cluster().create, **spec, healthCheckNodePort=port)
    assert Cluster().create(**spec, healthCheckNodePort=30081)["healthCheckNodePort"] == 30081


def test_everything_a_service_holds_is_claimed_and_given_back():
    cluster = Cluster()
    cluster.create(type="LoadBalancer", externalTrafficPolicy="Local", ipFamilyPolicy="RequireDualStack")
    first = cluster.old
    claims = cluster.services.claims(first, None)
    assert len(claims) == 5
    assert sum(one.resource is NODE_PORTS for one in claims) == 3


def test_the_lower_part_of_ranges_is_left_to_people_who_choose():
    for _ in range(50):
        spec = Cluster().create(type="NodePort", ipFamilyPolicy="RequireDualStack")
        assert all(port >= 30086 for port in node_ports(spec))
        first, second = spec["clusterIPs"]
        assert not first.startswith("10.96.0.")
        assert int(second.rpartition(":")[2] or "0", 16) > 256 or second.count(":") > 3


async def test_addresses_of_a_range_that_gives_out_no_more_are_well_had() -> None:
    cluster = Cluster("10.96.0.0/16")
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    going = made("networking.k8s.io/v1", "ServiceCIDR", "old", spec={"cidrs": ["10.97.0.0/24"]}, status=ready)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.reader.put(SERVICECIDRS, going)
    service = made("v1", "Service", "s", "d", spec={"clusterIPs": ["10.97.0.1"], "clusterIP": "10.97.0.1"})
    cluster.reader.put(SERVICES, service)
    (holder,) = cluster.services.claims(service, None)
    cluster.reader.put(IPADDRESSES, holder.obj)
    told: list[Finding] = []
    await cluster.services.repair(told.append)
    assert told == []
    assert cluster.services.networks() == [ip_network("10.96.0.0/16")]
