"""Tables of nf_tables: golden files that the real ``nft`` judges, and what the kernel has after our messages."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from agents.network.nftables.sets import Element, pack, show
from agents.network.nftables.wire import Batch, digest
from agents.proxy.backend import HostView
from agents.proxy.model import Endpoint, Family, ServicePort
from agents.proxy.nftables import layout
from agents.proxy.nftables.render import Fragment, render
from agents.proxy.nftables.state import Observed, Services
from tests.unit.proxy import listing
from tests.unit.proxy.models import (
    CASES,
    CIDR,
    CIDR6,
    FAR,
    GOLDEN,
    HOST,
    NEAR,
    THIRD,
    compare_with_golden,
    of_family,
    port,
    run_alone,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
HOSTS = (
    HOST,
    HostView((), node_ips=HOST.node_ips, node_port_addresses=("primary",), masquerade_all=True),
    HostView((CIDR, CIDR6), node_port_addresses=("192.0.2.0/24", "127.0.0.0/8", "2001:db8::/32")),
    HostView((CIDR, CIDR6), localhost_node_ports=False),
)
in_namespace = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")


def many(family: Family) -> dict[str, tuple[ServicePort, ...]]:
    """A service of each case, with addresses and ports of its own."""
    found = {}
    for number, (name, case) in enumerate(CASES.items()):
        model = of_family(case, family)
        found[f"default/{name}"] = (
            replace(
                model,
                service=f"default/{name}",
                cluster_ip=f"{model.cluster_ip.rstrip('0123456789')}{60 + number}",
                node_port=model.node_port and model.node_port + number,
                external_ips=tuple(f"{ip.rstrip('0123456789')}{60 + number}" for ip in model.external_ips),
                load_balancer_ips=tuple(f"{ip.rstrip('0123456789')}{60 + number}" for ip in model.load_balancer_ips),
            ),
        )
    return found


def services(family: Family, host: HostView = HOST, **of: tuple[ServicePort, ...]) -> Services:
    found = Services(host, family)
    found.take(of or many(family))
    return found


@FAMILIES
@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, family: Family) -> None:
    """What the port adds to the table."""
    fragment = render(of_family(CASES[name], family), HOST)
    kinds = {**layout.sets(family), **fragment.sets}
    lines = []
    for where, element in sorted({**fragment.elements, **fragment.shared}.items()):
        lines.append(f"{where[0]}: {listing.element_text(kinds[where[0]], element)}")
    for set_name, kind in sorted(fragment.sets.items()):
        lines.append(f"set {set_name}: {'; '.join(kind.lines())}")
    for chain, rules in sorted(fragment.chains.items()):
        lines += [f"chain {chain}:", *(f"    {listing.rule_text(rule)}" for rule in rules)]
    path = GOLDEN / "nftables" / f"{name}{'' if family == 4 else '.ipv6'}.rules"
    compare_with_golden(path, "\n".join(lines) + "\n")


@FAMILIES
def test_golden_table(family: Family) -> None:
    """The whole table with a service of each kind, as ``nft -f`` reads it."""
    text = listing.table(family, services(family).wanted())
    compare_with_golden(GOLDEN / "nftables" / f"table{family}.nft", text)


@in_namespace
@FAMILIES
def test_real_tool_accepts_the_text_and_prints_our_code_the_same(family: Family) -> None:
    """One namespace loads the text by ``nft``, another our messages; ``nft`` must see no difference."""
    listings = alone("listings", family).split(MARK)
    for host, by_kernel in zip(HOSTS, listings, strict=True):
        text = listing.table(family, services(family, host).wanted())
        by_tool = run_alone("cat > /dev/shm/orca.$$; nft -c -f /dev/shm/orca.$$ && nft -f /dev/shm/orca.$$;"
                            " rm /dev/shm/orca.$$; nft -s list ruleset", text)  # fmt: skip
        assert sections(by_tool) == sections(by_kernel)


@in_namespace
@FAMILIES
def test_what_the_kernel_has_is_what_was_written(family: Family) -> None:
    """Also after many changes at random, and whatever damage others do is mended by what differs."""
    told = alone("damages", family).splitlines()
    assert told[:2] == ["written: nothing to restore", "changed: nothing to restore"]
    assert [line for line in told[2:] if not line.endswith(": restored, nothing to restore")] == []
    assert len(told) == 2 + len(DAMAGES)


MARK = "=== next host ==="
DAMAGES = (
    "nft flush chain {} orca-proxy services",
    "nft delete table {} orca-proxy",
    "nft flush ruleset",
    "nft add rule {} orca-proxy nat-output accept",
    "nft insert rule {} orca-proxy services drop",
    "nft add element {} orca-proxy service-nodeports {{ tcp . 31999 : drop }}",
    "nft flush map {} orca-proxy cluster-endpoints",
    "nft add chain {} orca-proxy somebody && nft add rule {} orca-proxy services goto somebody",
    "nft add set {} orca-proxy others {{ type mark\\; }}",
)


def sections(listed: str) -> dict[str, set[str]]:
    """Blocks of a listing by their first line, however nft orders them and their elements."""
    found: dict[str, set[str]] = {}
    block = ""
    for line in re.sub(r",\s+", ",\n", listed).replace("elements = { ", "elements = {\n").splitlines():
        line = line.strip().rstrip(",").removesuffix(" }")
        if line.endswith("{"):
            block = line
        elif line not in ("", "}"):
            found.setdefault(block, set()).add(line)
    return found


def alone(what: str, family: Family) -> str:
    """What ``nftables_alone`` prints."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.unit.proxy.nftables_alone", what, str(family)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- pure ------------------------------------------------------------------------------------------------------------


def kinds_of(batch: Batch) -> list[int]:
    return [kind for kind, _, _ in batch._messages]


def test_one_changed_endpoint_is_two_elements() -> None:
    state = services(4, web=(port(cluster=(NEAR, FAR, THIRD)),))
    other = Endpoint("10.244.2.9", 8080)
    batch = state.take({"web": (port(cluster=(NEAR, FAR, other)),)})
    assert batch.count == 2, "one goes, one comes"
    assert not state.take({"web": (port(cluster=(NEAR, FAR, other)),)}), "nothing changed"


def test_cost_of_a_change_does_not_depend_on_how_many_there_are() -> None:
    def size(count: int) -> int:
        state = Services(HOST, 4)
        state.take({
            f"default/s{n}": (port(service=f"default/s{n}", cluster_ip=f"10.96.{n // 200}.{n % 200 + 1}",
                                   cluster=(FAR, THIRD)),)
            for n in range(count)
        })  # fmt: skip
        change = port(service="default/s1", cluster_ip="10.96.0.2", cluster=(FAR, Endpoint("10.244.9.9", 80)))
        return len(state.take({"default/s1": (change,)}).messages(1)[0])

    assert size(10) == size(1000)


def test_chains_for_counts_of_endpoints_come_and_go() -> None:
    state = Services(HOST, 4)
    state.take({"a": (port(service="a", cluster=(FAR,)),)})
    assert "cluster-ip-1" in state.wanted().chains
    state.take({"a": (port(service="a", cluster=(FAR, THIRD)),)})
    assert "cluster-ip-1" not in state.wanted().chains
    assert "cluster-ip-2" in state.wanted().chains
    state.take({"a": ()})
    assert state.wanted() == Services(HOST, 4).wanted()


def test_two_services_with_one_address() -> None:
    """The first by name has it, whatever came first; when it goes the other one gets it."""
    first = port(service="a", cluster_ip="10.96.0.1", external_ips=("198.51.100.1",), cluster=(NEAR,))
    second = port(service="b", cluster_ip="10.96.0.2", external_ips=("198.51.100.1",), cluster=(FAR,))
    place = ("cluster-endpoints", pack(layout.key_types(4), "198.51.100.1", "TCP", 80) + bytes(4))

    def target(state: Services) -> str:
        element: Element = state.wanted().elements[place]
        assert isinstance(element.data, bytes)
        return show(layout.data_types(4), element.data)

    state = Services(HOST, 4)
    state.take({"b": (second,)})
    assert target(state) == "10.244.2.2 . 8080"
    state.take({"a": (first,)})
    assert target(state) == "10.244.1.2 . 8080"
    state.take({"a": ()})
    assert target(state) == "10.244.2.2 . 8080"
    state.take({"a": (first,), "b": ()})
    assert target(state) == "10.244.1.2 . 8080"


def test_address_goes_from_one_service_to_another_in_one_transaction() -> None:
    state = services(4, a=(port(service="a", cluster=(NEAR,)),))
    batch = state.take({"a": (), "b": (port(service="b", cluster=(FAR,)),)})
    kinds = kinds_of(batch)
    assert max(i for i, kind in enumerate(kinds) if kind == 14) < min(i for i, kind in enumerate(kinds) if kind == 12)


@FAMILIES
def test_random_changes_leave_what_a_fresh_start_writes(family: Family) -> None:
    random_ = random.Random(7)
    state = services(family)
    now = many(family)
    there = state.wanted()
    for _ in range(200):
        changed = some_changes(random_, family)
        now.update(changed)
        state.take(changed)
    fresh = Services(HOST, family)
    fresh.take({name: ports for name, ports in now.items() if ports})
    assert state.wanted() == fresh.wanted()
    assert there != state.wanted()
    assert not fresh.restore(observed(state.wanted(), family)), "nothing to do"


def some_changes(random_: random.Random, family: Family) -> dict[str, tuple[ServicePort, ...]]:
    """One to three services become what another case says, with an address that another may have, or go."""
    names = [f"default/{name}" for name in CASES]
    models = list(many(family).values())
    changed = {}
    for name in random_.sample(names, random_.randint(1, 3)):
        (model,) = random_.choice(models)
        changed[name] = () if random_.random() < 0.2 else (replace(model, service=name),)
    return changed


def observed(wanted: Fragment, family: Family) -> Observed:
    sets = {**layout.sets(family), **wanted.sets}
    return Observed(
        {name: layout.BASE_CHAINS.get(name) for name in wanted.chains},
        {name: [digest(rule) for rule in rules] for name, rules in wanted.chains.items()},
        {name: kind.shape for name, kind in sets.items()},
        dict(wanted.elements),
    )
