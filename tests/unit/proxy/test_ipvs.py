"""What IPVS is told for a model, and what of the kernel's state it changes. The packet table shows that it works."""

from __future__ import annotations

import os
import shutil

import pytest

from agents.network.iptables import Transaction, difference, parse_save
from agents.proxy.backend import HostView
from agents.proxy.ipvs import ipset, layout, netlink, rules
from agents.proxy.ipvs.host import problem
from agents.proxy.ipvs.layout import Fragment, Virtual, VirtualKey
from agents.proxy.ipvs.plan import (
    Actual,
    DropServer,
    DropVirtual,
    PutServer,
    PutVirtual,
    RealServer,
    draining,
    plan,
)
from agents.proxy.ipvs.wanted import Wanted
from agents.proxy.model import Endpoint, Family, ServicePort
from tests.unit.proxy.models import (
    CASES,
    CIDR,
    CIDR6,
    FAR,
    GOLDEN,
    HOST,
    NEAR,
    compare_with_golden,
    of_family,
    port,
    run_alone,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
OWN: dict[Family, tuple[str, ...]] = {4: ("10.244.1.1", "192.0.2.1"), 6: ("2001:db8::1", "fd00:10:244::1")}
KEY = VirtualKey("TCP", "10.96.0.50", 80)
ONE, TWO = ("10.244.1.2", 8080), ("10.244.2.2", 8080)
WANTED = Virtual("rr", servers=frozenset({ONE, TWO}))
THERE = Actual("rr", 0, 0, {ONE: RealServer(1), TWO: RealServer(1, 5)})


def render(model: ServicePort, host: HostView = HOST) -> Fragment:
    return layout.render(model, host, OWN[model.family], OWN[model.family][1:])


def text_of(fragment: Fragment) -> str:
    lines = []
    for key, virtual in sorted(fragment.virtuals.items()):
        settings = f" flags {virtual.flags:#x} timeout {virtual.timeout}" if virtual.flags else ""
        lines.append(f"{key.protocol} {key.address} {key.port} {virtual.scheduler}{settings}")
        lines += [f"  -> {ip} {number}" for ip, number in sorted(virtual.servers)]
    lines += [f"address {address}" for address in sorted(fragment.addresses)]
    return "\n".join(lines) + "\n" + ipset.transaction(add=fragment.entries)


@FAMILIES
@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, family: Family) -> None:
    path = GOLDEN / "ipvs" / f"{name}{'' if family == 4 else '.ipv6'}.txt"
    compare_with_golden(path, text_of(render(of_family(CASES[name], family))))


@FAMILIES
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ipset"), reason="needs root and ipset")
def test_the_real_tools_take_sets_and_rules_and_give_them_back(family: Family) -> None:
    sets = {layout.set_name(family, name): kind for name, kind in layout.SETS.items()}
    entries = {entry for model in CASES.values() for entry in render(of_family(model, family)).entries}
    text = ipset.transaction(
        create={name: ipset.options(kind, ipv6=family == 6) for name, kind in sets.items()}, add=entries
    )
    tool = "iptables" if family == 4 else "ip6tables"
    for host in (HOST, HostView((), masquerade_all=True), HostView((CIDR, CIDR6), masquerade_all=True)):
        wanted = rules.chains(family, cluster_cidr=host.cluster_cidr(family), masquerade_all=host.masquerade_all)
        transaction = difference({}, wanted, jumps=rules.JUMPS)
        script = (
            f"ipset restore <<'END'\n{text}END\n{tool}-restore --noflush <<'END' && {tool}-save\n{transaction}END\n"
        )
        state = parse_save(run_alone(script))
        assert not difference(state, wanted, jumps=rules.JUMPS, owned=rules.owned), "read back equal"
    assert ipset.parse_save(run_alone(f"ipset restore <<'END' && ipset save\n{text}END\n")) == (sets, entries)


@FAMILIES
def test_names_fit_into_the_kernel(family: Family) -> None:
    assert all(len(layout.set_name(family, name)) <= 31 for name in layout.SETS)
    assert len({layout.set_name(family, name) for name in layout.SETS}) == len(layout.SETS)
    assert all(len(chain) <= 28 for chain in rules.CHAINS)


def test_rules_do_not_grow_with_services() -> None:
    transaction = Transaction()
    for table, chains in rules.chains(4, cluster_cidr=CIDR).items():
        for chain, wanted in chains.items():
            transaction.write(table, chain, wanted)
    assert str(transaction).count("\n-A") < 45


def test_affinity_and_schedulers() -> None:
    sticky = render(port(cluster=(NEAR,), affinity_seconds=300)).virtuals[KEY]
    assert (sticky.flags, sticky.timeout) == (layout.PERSISTENT, 300)
    hashed = render(port(cluster=(NEAR,)), HostView(ipvs_scheduler="mh")).virtuals[KEY]
    assert (hashed.scheduler, hashed.flags) == ("mh", layout.HASH_PORTS)


def test_addresses_the_host_has_are_left_to_it() -> None:
    own = render(port(cluster=(NEAR,), external_ips=("192.0.2.1", "198.51.100.1")))
    assert own.addresses == {"10.96.0.50", "198.51.100.1"}
    assert VirtualKey("TCP", "192.0.2.1", 80) in own.virtuals
    assert ("KUBE-IPVS-IPS", "192.0.2.1") not in own.entries, "or all else on it would be refused"


def test_open_source_ranges_are_split_for_the_set() -> None:
    made = render(port(cluster=(NEAR,), load_balancer_ips=("198.51.100.1",), source_ranges=("0.0.0.0/0",)))
    sources = {entry for name, entry in made.entries if name == "KUBE-LOAD-BALANCER-SOURCE-CIDR"}
    ranges = {"0.0.0.0/1", "128.0.0.0/1", "198.51.100.1"}
    assert sources == {f"198.51.100.1,tcp:80,{each}" for each in ranges}


def test_only_hosts_of_an_endpoint_masquerade_its_hairpin() -> None:
    unplaced = Endpoint("10.244.7.7", 8080, unplaced=True)
    made = render(port(cluster=(NEAR, FAR, unplaced)))
    assert {entry.split(",")[0] for name, entry in made.entries if name == "KUBE-LOOP-BACK"} == {NEAR.ip, unplaced.ip}


# --- wanted ----------------------------------------------------------------------------------------------------------


def test_what_two_services_share_stays_until_both_are_gone() -> None:
    wanted = Wanted(render)
    shared = {"external_ips": ("198.51.100.1",), "cluster": (NEAR,)}
    one, two = port(**shared), port(service="default/other", cluster_ip="10.96.0.51", port=81, **shared)
    wanted.take({"default/web": (one,), "default/other": (two,)})
    touched = wanted.take({"default/web": ()})
    assert touched.addresses == {"10.96.0.50"}
    assert wanted.has_address("198.51.100.1")
    assert wanted.has_entry(("KUBE-LOOP-BACK", "10.244.1.2,tcp:8080,10.244.1.2"))
    assert wanted.virtual(KEY) is None
    wanted.take({"default/other": ()})
    assert (wanted.addresses, wanted.entries, list(wanted.virtuals)) == (set(), set(), [])


def test_one_virtual_server_wanted_twice_goes_to_the_first_by_name() -> None:
    wanted = Wanted(render)
    taken = {"external_ips": ("198.51.100.1",)}
    key = VirtualKey("TCP", "198.51.100.1", 80)
    wanted.take({"default/b": (port(service="default/b", cluster_ip="10.96.0.52", cluster=(FAR,), **taken),)})
    wanted.take({"default/a": (port(service="default/a", cluster_ip="10.96.0.51", cluster=(NEAR,), **taken),)})
    assert wanted.virtual(key) == Virtual("rr", servers=frozenset({ONE}))
    wanted.take({"default/a": ()})
    assert wanted.virtual(key) == Virtual("rr", servers=frozenset({TWO}))


def test_the_same_models_touch_nothing() -> None:
    wanted = Wanted(render)
    assert wanted.take({"default/web": (port(cluster=(NEAR,)),)}).virtuals == {KEY}
    assert not wanted.take({"default/web": (port(cluster=(NEAR,)),)}).virtuals
    assert wanted.render_again().virtuals == {KEY}


# --- plan ------------------------------------------------------------------------------------------------------------


def test_nothing_to_do() -> None:
    assert plan(KEY, WANTED, THERE) == []
    assert plan(KEY, None, None) == []
    # A flag of the kernel's own, and the timeout it keeps of a persistence that was.
    assert plan(KEY, WANTED, Actual("rr", 0x2, 300, THERE.servers)) == []


def test_a_new_virtual_server_comes_before_its_real_ones() -> None:
    assert plan(KEY, WANTED, None) == [
        PutVirtual(KEY, WANTED, exists=False),
        PutServer(KEY, ONE, 1, exists=False),
        PutServer(KEY, TWO, 1, exists=False),
    ]
    assert plan(KEY, None, THERE) == [DropVirtual(KEY)]


def test_changed_settings_keep_the_real_servers() -> None:
    assert plan(KEY, WANTED, Actual("wlc", 0, 0, THERE.servers)) == [PutVirtual(KEY, WANTED, exists=True)]
    sticky = Virtual("rr", layout.PERSISTENT, 300, WANTED.servers)
    assert plan(KEY, sticky, Actual("rr", 0x3, 10800, THERE.servers)) == [PutVirtual(KEY, sticky, exists=True)]


def test_a_server_with_connections_gets_no_new_ones_and_goes_when_they_have_ended() -> None:
    left = Virtual("rr", servers=frozenset({ONE}))
    assert plan(KEY, left, THERE) == [PutServer(KEY, TWO, 0, exists=True)]
    assert draining(left, THERE, KEY)
    waiting = Actual("rr", 0, 0, {ONE: RealServer(1), TWO: RealServer(0, 2)})
    assert plan(KEY, left, waiting) == []
    assert plan(KEY, WANTED, waiting) == [PutServer(KEY, TWO, 1, exists=True)], "it is back"
    ended = Actual("rr", 0, 0, {ONE: RealServer(1), TWO: RealServer(0, 0)})
    assert plan(KEY, left, ended) == [DropServer(KEY, TWO)]
    assert not draining(left, ended, KEY)


def test_udp_waits_for_nothing() -> None:
    key = VirtualKey("UDP", "10.96.0.50", 53)
    left = Virtual("rr", servers=frozenset({ONE}))
    assert plan(key, left, THERE) == [DropServer(key, TWO)]
    assert not draining(left, THERE, key)


# --- the host --------------------------------------------------------------------------------------------------------


def test_a_host_without_ipvs_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_family(self: object) -> None:
        raise netlink.NetlinkError(2, "No such file or directory")

    def no_dummy(self: object) -> bool:
        raise netlink.NetlinkError(95, "Operation not supported")

    monkeypatch.setattr("agents.proxy.ipvs.host._load_module", lambda name: None)
    monkeypatch.setattr("agents.proxy.ipvs.host.VirtualServers.__init__", no_family)
    monkeypatch.setattr("agents.proxy.ipvs.host.HostAddresses.ensure_device", no_dummy)
    monkeypatch.setattr("agents.proxy.ipvs.ipset.program", lambda: "")
    said = problem()
    assert "--proxy-mode=ipvs" in said
    for missing in ("apt-get install ipset", "kernel module ip_vs", "kernel module dummy"):
        assert missing in said
    assert "fastest" in problem("fastest")
