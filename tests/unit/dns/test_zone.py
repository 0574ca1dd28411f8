"""The zone: Services and EndpointSlices in, answers out, read by dnslib."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import dnslib
import pytest

from agents.dns import reply, wire
from agents.dns.zone import TTL, Zone

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
        (service("out2", type="ExternalName", externalName="out.default.svc.cluster.local"), []),
        (service("number", type="ExternalName", externalName="192.0.2.1"), []),
        (service("inside", type="ExternalName", externalName="web.default.svc.cluster.local"), []),
        (
            service("api", clusterIP="10.96.0.52", clusterIPs=["10.96.0.52"], ports=[{"port": 443}]),
            [slice_of({"addresses": ["10.244.1.9"], "hostname": "one"}, ports=[{"name": "", "port": 6443}])],
        ),
        (
            service("six", "data", clusterIP="None"),
            [slice_of({"addresses": ["fd00:1::7"]}, ports=[{"name": "sql", "port": 1}, {"name": "", "port": None}])],
        ),
    ]
    for obj, slices in objects:
        key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        zone.put(key, obj, slices)
    zone.namespace_is("bare")
    return zone


def question(name: str, kind: str = "A") -> wire.Query:
    query = wire.parse_query(dnslib.DNSRecord.question(name, kind).pack())
    assert query
    return query


def ask(zone: Zone, name: str, kind: str = "A", *, udp: bool = True) -> dnslib.DNSRecord:
    query = question(name, kind)
    assert zone.covers(query.name)
    return dnslib.DNSRecord.parse(reply.pack(query, zone.answer(query.name, query.kind)).to(query, udp=udp))


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
            ["0 50 5432 10-244-1-3.db.data.svc.cluster.local.", "0 50 5432 db-0.db.data.svc.cluster.local."],
        ),
        ("empty.data.svc.cluster.local", "A", "NXDOMAIN", []),
        ("50.0.96.10.in-addr.arpa", "PTR", "NOERROR", ["web.default.svc.cluster.local."]),
        ("2.1.244.10.in-addr.arpa", "PTR", "NOERROR", ["db-0.db.data.svc.cluster.local."]),
        ("2.1.244.10.in-addr.arpa", "A", "NOERROR", []),
        ("3.1.244.10.in-addr.arpa", "PTR", "NXDOMAIN", []),
        ("99.1.244.10.in-addr.arpa", "PTR", "NXDOMAIN", []),
        (ipaddress.ip_address("fd00::51").reverse_pointer, "PTR", "NOERROR", ["dual.default.svc.cluster.local."]),
        ("dual.default.svc.cluster.local", "SRV", "NOERROR", ["0 50 1 dual.default.svc.cluster.local."]),
        ("one.api.default.svc.cluster.local", "A", "NOERROR", ["10.244.1.9"]),
        ("api.default.svc.cluster.local", "A", "NOERROR", ["10.96.0.52"]),
        ("six.data.svc.cluster.local", "A", "NOERROR", []),
        ("six.data.svc.cluster.local", "AAAA", "NOERROR", ["fd00:1::7"]),
        ("fd00-1--7.six.data.svc.cluster.local", "AAAA", "NOERROR", ["fd00:1::7"]),
        ("_sql._tcp.six.data.svc.cluster.local", "SRV", "NOERROR", ["0 100 1 fd00-1--7.six.data.svc.cluster.local."]),
        ("number.default.svc.cluster.local", "A", "NXDOMAIN", []),
        ("x.out.default.svc.cluster.local", "CNAME", "NXDOMAIN", []),
        ("out.default.svc.cluster.local", "CNAME", "NOERROR", ["example.com."]),
        ("out.default.svc.cluster.local", "ANY", "NOERROR", []),
        ("web.default.svc.cluster.local", "ANY", "NOERROR", []),
        ("web.default.svc.cluster.local", "MX", "NOERROR", []),
        ("bare.svc.cluster.local", "A", "NOERROR", []),
        ("bare.pod.cluster.local", "A", "NOERROR", []),
        ("pod.cluster.local", "A", "NOERROR", []),
        ("none.svc.cluster.local", "A", "NXDOMAIN", []),
        ("none.pod.cluster.local", "A", "NXDOMAIN", []),
        ("dns.cluster.local", "A", "NOERROR", []),
        ("dns-version.cluster.local", "A", "NOERROR", []),
        ("10-244-9-9.bare.pod.cluster.local", "A", "NOERROR", ["10.244.9.9"]),
        ("10-244-9-9.none.pod.cluster.local", "A", "NXDOMAIN", []),
        ("fd00--9.bare.pod.cluster.local", "AAAA", "NOERROR", ["fd00::9"]),
        ("fd00--9.bare.pod.cluster.local", "A", "NOERROR", []),
        ("x.10-244-9-9.bare.pod.cluster.local", "A", "NXDOMAIN", []),
        ("cluster.local", "SOA", "NOERROR", None),
        ("10-244-9-9.default.pod.cluster.local", "A", "NOERROR", ["10.244.9.9"]),
        ("10-244-9-9.default.pod.cluster.local", "AAAA", "NOERROR", []),
        ("10-244-9-999.default.pod.cluster.local", "A", "NXDOMAIN", []),
        ("dns-version.cluster.local", "TXT", "NOERROR", ['"1.1.0"']),
        ("ns.dns.cluster.local", "A", "NOERROR", ["10.96.0.10"]),
        ("cluster.local", "NS", "NOERROR", ["ns.dns.cluster.local."]),
        ("inside.default.svc.cluster.local", "A", "NOERROR", ["10.96.0.50", "web.default.svc.cluster.local."]),
    ],
)
def test_answers(zone: Zone, name: str, kind: str, rcode: str, answers: list[str] | None) -> None:
    record = ask(zone, name, kind)
    if answers is None:
        assert [rr.rtype for rr in record.rr] == [wire.SOA]
        return
    assert said(record) == (rcode, sorted(answers))
    assert str(record.q.qname) == name + "."
    assert record.header.aa
    if not answers:
        assert [rr.rtype for rr in record.auth] == [wire.SOA], "negative answers say how long they hold"


def test_external_name_names_what_is_left_to_ask(zone: Zone) -> None:
    answer = zone.answer("out.default.svc.cluster.local", wire.A)
    assert zone.outside_target(answer) == "example.com"
    assert zone.outside_target(zone.answer("out2.default.svc.cluster.local", wire.A)) == "example.com"


def test_aliases_that_lead_nowhere_end(zone: Zone) -> None:
    for one, two in (("a", "b"), ("b", "a")):
        zone.put(f"d/{one}", service(one, "d", type="ExternalName", externalName=f"{two}.d.svc.cluster.local"))
    record = ask(zone, "a.d.svc.cluster.local")
    assert said(record) == ("NOERROR", ["a.d.svc.cluster.local.", "b.d.svc.cluster.local."])
    zone.put("d/b", None)
    assert said(ask(zone, "a.d.svc.cluster.local")) == ("NXDOMAIN", ["b.d.svc.cluster.local."])


def test_srv_brings_the_addresses_along(zone: Zone) -> None:
    record = ask(zone, "_http._tcp.web.default.svc.cluster.local", "SRV")
    assert [(str(rr.rname), str(rr.rdata)) for rr in record.ar] == [("web.default.svc.cluster.local.", "10.96.0.50")]
    record = ask(zone, "dual.default.svc.cluster.local", "SRV")
    assert sorted(str(rr.rdata) for rr in record.ar) == ["10.96.0.51", "fd00::51"]


def test_records_live_half_a_minute_and_denials_five_seconds(zone: Zone) -> None:
    assert ask(zone, "web.default.svc.cluster.local").rr[0].ttl == TTL == 30
    soa = ask(zone, "nope.default.svc.cluster.local").auth[0]
    assert (str(soa.rname), soa.ttl, soa.rdata.times[-1]) == ("cluster.local.", 5, 5)
    assert str(ask(zone, "99.1.244.10.in-addr.arpa", "PTR").auth[0].rname) == "in-addr.arpa."


def test_addresses_come_in_another_order_each_time(zone: Zone) -> None:
    firsts = {str(ask(zone, "db.data.svc.cluster.local").rr[0].rdata) for _ in range(64)}
    assert firsts == {"10.244.1.2", "10.244.1.3"}


def test_any_of_many_addresses_comes_first() -> None:
    zone = Zone()
    zone.put("d/big", service("big", "d", clusterIP="None"), [many(4)])
    query = question("big.d.svc.cluster.local")
    packed = reply.pack(query, zone.answer(query.name, query.kind))
    first = slice(12 + len(query.wire) + 12, 12 + len(query.wire) + 16)
    firsts = {packed.to(query, udp=False)[first] for _ in range(3000)}
    assert len(firsts) == 200


def test_names_of_the_outside_are_not_covered(zone: Zone) -> None:
    for name in ("example.com", "cluster.local.example.com", "mycluster.local", "8.8.8.8.in-addr.arpa", ""):
        assert not zone.covers(name)


def test_a_dot_within_a_label_ends_no_label(zone: Zone) -> None:
    odd = b"\x0bweb.default\x03svc\x07cluster\x05local\0\0\1\0\1"
    query = wire.parse_query(dnslib.DNSRecord.question("x").pack()[:12] + odd)
    assert query
    answer = zone.answer(query.name, query.kind)
    assert answer.rcode == wire.NXDOMAIN
    assert dnslib.DNSRecord.parse(reply.pack(query, answer).to(query, udp=True)).auth[0].rname == "cluster.local."


def test_everything_of_a_gone_service_goes(zone: Zone) -> None:
    for key in list(zone._services):
        zone.put(key, None)
    assert not zone._reverse
    assert not zone._sets
    assert zone._namespaces == {"bare": 1}
    assert said(ask(zone, "default.svc.cluster.local"))[0] == "NXDOMAIN"


def test_a_change_is_an_answer_at_once_and_a_higher_serial(zone: Zone) -> None:
    before = zone.serial
    assert said(ask(zone, "web.default.svc.cluster.local")) == ("NOERROR", ["10.96.0.50"])
    zone.put("default/web", service("web", clusterIP="10.96.0.77", clusterIPs=["10.96.0.77"], ports=[HTTP]))
    assert said(ask(zone, "web.default.svc.cluster.local")) == ("NOERROR", ["10.96.0.77"])
    assert said(ask(zone, "77.0.96.10.in-addr.arpa", "PTR"))[0] == "NOERROR"
    assert said(ask(zone, "50.0.96.10.in-addr.arpa", "PTR"))[0] == "NXDOMAIN"
    assert zone.serial > before


def many(blocks: int) -> Obj:
    return slice_of(*({"addresses": [f"10.244.{a}.{b}"]} for a, b in itertools.product(range(blocks), range(50))))


@pytest.mark.parametrize("blocks", [2, 4])
def test_too_long_for_udp_is_cut_after_whole_records(blocks: int) -> None:
    """Resolvers that do not come again over TCP, as musl's until 1.2.4, have some addresses to go on with."""
    zone = Zone()
    zone.put("d/big", service("big", "d", clusterIP="None"), [many(blocks)])
    cut = ask(zone, "big.d.svc.cluster.local")
    assert cut.header.tc
    assert len(cut.rr) == (512 - 12 - 29) // 16
    whole = ask(zone, "big.d.svc.cluster.local", udp=False)
    assert len({str(rr.rdata) for rr in whole.rr}) == blocks * 50
    assert not whole.header.tc


def test_without_room_for_additional_records_nothing_is_missing(zone: Zone) -> None:
    zone.put("d/few", service("few", "d", clusterIP="None"), [
        slice_of(*({"addresses": [f"10.244.0.{i}"]} for i in range(6)), ports=[{"name": "p", "port": 1}])
    ])  # fmt: skip
    record = ask(zone, "_p._tcp.few.d.svc.cluster.local", "SRV")
    assert (len(record.rr), len(record.ar), record.header.tc) == (6, 0, 0)
    assert len(ask(zone, "_p._tcp.few.d.svc.cluster.local", "SRV", udp=False).ar) == 6


def test_an_address_of_two_services_points_at_both_until_one_goes() -> None:
    zone = Zone(local_ranges=["10.244.0.0/16"])
    for name in ("a", "b"):
        zone.put(
            f"d/{name}",
            service(name, "d", clusterIP="None"),
            [slice_of({"addresses": ["10.244.0.1"], "hostname": "h"})],
        )
    both = ["h.a.d.svc.cluster.local.", "h.b.d.svc.cluster.local."]
    assert said(ask(zone, "1.0.244.10.in-addr.arpa", "PTR")) == ("NOERROR", both)
    zone.put("d/a", None)
    assert said(ask(zone, "1.0.244.10.in-addr.arpa", "PTR")) == ("NOERROR", both[1:])
