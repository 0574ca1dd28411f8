"""The zone: Services and EndpointSlices in, answers out, read by dnslib."""

from __future__ import annotations

import itertools
from typing import Any

import dnslib
import pytest

from agents.dns import wire
from agents.dns.zone import Zone, service_names

Obj = dict[str, Any]


def service(name: str, namespace: str = "default", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def slice_of(*endpoints: Obj, ports: list[Obj] | None = None) -> Obj:
    return {"addressType": "IPv4", "endpoints": list(endpoints), "ports": ports or []}


HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
HEADLESS = slice_of(
    {"addresses": ["10.244.1.2"], "hostname": "db-0", "conditions": {"ready": True}},
    {"addresses": ["10.244.1.3"], "conditions": {}},
    {"addresses": ["10.244.1.4"], "hostname": "db-2", "conditions": {"ready": False}},
    ports=[{"name": "sql", "port": 5432, "protocol": "TCP"}],
)


@pytest.fixture
def zone() -> Zone:
    zone = Zone(addresses=["10.96.0.10"], local_ranges=["10.244.0.0/16", "10.96.0.0/16"])
    objects: list[tuple[Obj, list[Obj]]] = [
        (service("web", clusterIP="10.96.0.50", clusterIPs=["10.96.0.50"], ports=[HTTP]), []),
        (service("dual", clusterIP="10.96.0.51", clusterIPs=["10.96.0.51", "fd00::51"], ports=[{"port": 1}]), []),
        (
            service("db", "data", clusterIP="None", clusterIPs=["None"], ports=[{"name": "sql", "port": 5432}]),
            [HEADLESS],
        ),
        (service("empty", "data", clusterIP="None"), []),
        (service("out", type="ExternalName", externalName="Example.COM."), []),
        (service("inside", type="ExternalName", externalName="web.default.svc.cluster.local"), []),
    ]
    for obj, slices in objects:
        key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        zone.replace(key, service_names(obj, slices, zone.domain))
    return zone


def ask(zone: Zone, name: str, kind: str = "A", **how: Any) -> dnslib.DNSRecord:
    message = dnslib.DNSRecord.question(name, kind).pack()
    query = wire.parse_query(message)
    assert query
    assert zone.covers(query.name)
    packed = wire.pack(query, zone.answer(query, **how))
    return dnslib.DNSRecord.parse(wire.address_to(query, packed, udp=True))


def said(record: dnslib.DNSRecord) -> tuple[str, list[str]]:
    return dnslib.RCODE[record.header.rcode], sorted(str(rr.rdata) for rr in record.rr)


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "answers"),
    [
        ("web.default.svc.cluster.local", "A", "NOERROR", ["10.96.0.50"]),
        ("WEB.Default.svc.cluster.LOCAL", "A", "NOERROR", ["10.96.0.50"]),
        ("web.default.svc.cluster.local", "AAAA", "NOERROR", []),
        ("dual.default.svc.cluster.local", "AAAA", "NOERROR", ["fd00::51"]),
        ("web.other.svc.cluster.local", "A", "NXDOMAIN", []),
        ("nothing.default.svc.cluster.local", "A", "NXDOMAIN", []),
        ("google.com.default.svc.cluster.local", "A", "NXDOMAIN", []),
        ("google.com.svc.cluster.local", "A", "NXDOMAIN", []),
        ("google.com.cluster.local", "A", "NXDOMAIN", []),
        ("default.svc.cluster.local", "A", "NOERROR", []),
        ("svc.cluster.local", "A", "NOERROR", []),
        ("cluster.local", "A", "NOERROR", []),
        ("_tcp.web.default.svc.cluster.local", "A", "NOERROR", []),
        ("_http._tcp.web.default.svc.cluster.local", "SRV", "NOERROR", ["0 100 80 web.default.svc.cluster.local."]),
        ("_nope._tcp.web.default.svc.cluster.local", "SRV", "NXDOMAIN", []),
        ("db.data.svc.cluster.local", "A", "NOERROR", ["10.244.1.2", "10.244.1.3"]),
        ("db-0.db.data.svc.cluster.local", "A", "NOERROR", ["10.244.1.2"]),
        ("10-244-1-3.db.data.svc.cluster.local", "A", "NOERROR", ["10.244.1.3"]),
        ("db-2.db.data.svc.cluster.local", "A", "NXDOMAIN", []),
        (
            "_sql._tcp.db.data.svc.cluster.local",
            "SRV",
            "NOERROR",
            ["0 100 5432 10-244-1-3.db.data.svc.cluster.local.", "0 100 5432 db-0.db.data.svc.cluster.local."],
        ),
        ("empty.data.svc.cluster.local", "A", "NXDOMAIN", []),
        ("50.0.96.10.in-addr.arpa", "PTR", "NOERROR", ["web.default.svc.cluster.local."]),
        ("2.1.244.10.in-addr.arpa", "PTR", "NOERROR", ["db-0.db.data.svc.cluster.local."]),
        ("99.1.244.10.in-addr.arpa", "PTR", "NXDOMAIN", []),
        ("10-244-9-9.default.pod.cluster.local", "A", "NOERROR", ["10.244.9.9"]),
        ("10-244-9-9.default.pod.cluster.local", "AAAA", "NOERROR", []),
        ("10-244-9-999.default.pod.cluster.local", "A", "NXDOMAIN", []),
        ("dns-version.cluster.local", "TXT", "NOERROR", ['"1.1.0"']),
        ("ns.dns.cluster.local", "A", "NOERROR", ["10.96.0.10"]),
        ("cluster.local", "NS", "NOERROR", ["ns.dns.cluster.local."]),
        ("inside.default.svc.cluster.local", "A", "NOERROR", ["10.96.0.50", "web.default.svc.cluster.local."]),
    ],
)
def test_answers(zone: Zone, name: str, kind: str, rcode: str, answers: list[str]) -> None:
    record = ask(zone, name, kind)
    assert said(record) == (rcode, sorted(answers))
    assert str(record.q.qname) == name + "."
    assert record.header.aa
    if not answers:
        assert [rr.rtype for rr in record.auth] == [wire.SOA], "negative answers say how long they hold"


def test_external_name_names_what_is_left_to_ask(zone: Zone) -> None:
    query = wire.parse_query(dnslib.DNSRecord.question("out.default.svc.cluster.local", "A").pack())
    assert query
    assert zone.outside_target(zone.answer(query)) == "example.com"


def test_srv_brings_the_addresses_along(zone: Zone) -> None:
    record = ask(zone, "_http._tcp.web.default.svc.cluster.local", "SRV")
    assert [(str(rr.rname), str(rr.rdata)) for rr in record.ar] == [("web.default.svc.cluster.local.", "10.96.0.50")]


def test_addresses_take_turns(zone: Zone) -> None:
    firsts = {str(ask(zone, "db.data.svc.cluster.local", turn=turn).rr[0].rdata) for turn in range(4)}
    assert firsts == {"10.244.1.2", "10.244.1.3"}


def test_names_of_the_outside_are_not_covered(zone: Zone) -> None:
    for name in ("example.com", "cluster.local.example.com", "mycluster.local", "8.8.8.8.in-addr.arpa", ""):
        assert not zone.covers(name)


def test_everything_of_a_gone_service_goes(zone: Zone) -> None:
    before = Zone(addresses=["10.96.0.10"])
    for key in list(zone._by_service):
        if "/" in key:
            assert zone.replace(key, {})
    assert zone._records.keys() == before._records.keys()
    assert zone._exists == before._exists
    assert said(ask(zone, "default.svc.cluster.local"))[0] == "NXDOMAIN"


def test_replacing_by_the_same_changes_nothing(zone: Zone) -> None:
    web = service("web", clusterIP="10.96.0.50", clusterIPs=["10.96.0.50"], ports=[HTTP])
    serial = zone.serial
    assert not zone.replace("default/web", service_names(web, [], zone.domain))
    assert zone.serial == serial


def test_too_long_for_udp_is_cut_and_whole_over_tcp() -> None:
    zone = Zone()
    many = slice_of(*({"addresses": [f"10.244.{a}.{b}"]} for a, b in itertools.product(range(4), range(50))))
    zone.replace("d/big", service_names(service("big", "d", clusterIP="None"), [many], zone.domain))
    message = dnslib.DNSRecord.question("big.d.svc.cluster.local").pack()
    query = wire.parse_query(message)
    assert query
    packed = wire.pack(query, zone.answer(query))
    cut = dnslib.DNSRecord.parse(wire.address_to(query, packed, udp=True))
    assert cut.header.tc
    assert cut.rr == []
    assert len(dnslib.DNSRecord.parse(wire.address_to(query, packed, udp=False)).rr) == 200
