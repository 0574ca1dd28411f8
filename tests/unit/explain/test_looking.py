"""What agents read of their host: rules, virtual servers, sockets and routes, from what the kernel prints."""

from __future__ import annotations

from pathlib import Path

from agents.explain import chains, tables, virtual
from agents.explain.sockets import Listener, Route, listeners, route
from agents.proxy.seen import EndpointSeen

NAT = """
*nat
[0:0] -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
[3:180] -A KUBE-SERVICES -d 10.96.0.50/32 -p tcp -m comment --comment "web" -m tcp --dport 80 -j KUBE-SVC-A
[9:540] -A KUBE-SERVICES -d 10.96.0.50/32 -p udp -m comment --comment "web" -m udp --dport 80 -j KUBE-SVC-B
[1:60] -A KUBE-SVC-A ! -s 10.244.0.0/16 -d 10.96.0.50/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
[1:60] -A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-1
[2:120] -A KUBE-SVC-A -j KUBE-SEP-2
[0:0] -A KUBE-SEP-1 -s 10.244.1.5/32 -j KUBE-MARK-MASQ
[1:60] -A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080
[2:120] -A KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination 10.244.2.5:8080
COMMIT
"""
FILTER = """
*filter
[4:240] -A KUBE-SERVICES -d 10.96.0.60/32 -p tcp -m tcp --dport 80 -j REJECT
"""


def test_chains_lead_from_the_address_to_the_endpoints() -> None:
    seen = chains.seen(NAT, FILTER, "10.96.0.50", 80, "TCP")
    assert (seen.present, seen.packets, seen.refuses) == (True, 3, False)
    assert seen.endpoints == (EndpointSeen("10.244.1.5", 8080, 1), EndpointSeen("10.244.2.5", 8080, 2))
    assert not any("KUBE-SVC-B" in line for line in seen.text)


def test_refusals_and_what_is_not_there() -> None:
    seen = chains.seen(NAT, FILTER, "10.96.0.60", 80, "TCP")
    assert (seen.present, seen.refuses, seen.packets) == (True, True, 4)
    assert not chains.seen(NAT, FILTER, "10.96.0.50", 81, "TCP").present


def test_virtual_servers() -> None:
    table = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600032:0050 rr
  -> 0AF40105:1F90      Masq    1      2          5
UDP  0A600032:0050 rr
  -> 0AF40106:1F90      Masq    1      0          0
TCP  [fd00:0000:0000:0000:0000:0000:0000:0050]:0050 rr
  -> [fd00:0000:0000:0000:0000:0000:0000:0007]:1F90      Masq    1      0          1
"""
    seen = virtual.seen(table, "10.96.0.50", 80, "TCP")
    assert seen.endpoints == (EndpointSeen("10.244.1.5", 8080, connections=7),)
    assert virtual.seen(table, "fd00::50", 80, "TCP").endpoints == (EndpointSeen("fd00::7", 8080, connections=1),)
    assert not virtual.seen(table, "10.96.0.51", 80, "TCP").present


def test_listeners_and_routes(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue\n"
    (tmp_path / "tcp").write_text(
        head + "   0: 00000000:1F90 00000000:0000 0A 0\n   1: 0100007F:0050 00000000:0000 0A 0\n"
        "   2: 0501F40A:1F90 0201F40A:C000 01 0\n"
    )
    (tmp_path / "tcp6").write_text(head + f"   0: {'0' * 32}:01BB {'0' * 32}:0000 0A 0\n")
    (tmp_path / "udp").write_text(head + "   0: 00000000:0035 00000000:0000 07 0\n")
    assert listeners(tmp_path) == (
        Listener("TCP", 80, "127.0.0.1"),
        Listener("TCP", 443, "", 6),
        Listener("TCP", 8080),
        Listener("UDP", 53),
    )
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t01001EAC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0001F40A\t0B001EAC\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert route(tmp_path, "10.244.1.2") == Route("10.244.1.0/24", "eth0", "172.30.0.11")
    assert route(tmp_path, "192.0.2.1") == Route("0.0.0.0/0", "eth0", "172.30.0.1")
    zero = "0" * 32
    (tmp_path / "ipv6_route").write_text(
        f"fd000010024400010000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 orca0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert route(tmp_path, "fd00:10:244:1::9") == Route("fd00:10:244:1::/64", "orca0")
    assert route(tmp_path, "fd99::1") is None


async def test_tables_are_asked_element_by_element() -> None:
    web = "10.96.0.50 . tcp . 80"
    answers = {
        f"service-ips {{ {web} }}": f'elements = {{ {web} comment "shop/web" : goto cluster-ip-2 }}',
        f"cluster-endpoints {{ {web} . 0 }}": f"elements = {{ {web} . 0 : 10.244.1.5 . 8080 }}",
        f"cluster-endpoints {{ {web} . 1 }}": f"elements = {{ {web} . 1 : 10.244.2.5 . 8080 }}",
        "service-ips { fd00::50 . tcp . 80 }": "elements = { fd00::50 . tcp . 80 : goto cluster-XYZ/shop/web/tcp/80 }",
        '"cluster-XYZ/shop/web/tcp/80"': "\n".join(
            (
                'ip6 saddr @clients-A goto "endpoint-A/shop/web/fd00.1..5/8080"',
                'goto "endpoint-A/shop/web/fd00.1..5/8080"',
            )
        ),
        "no-endpoint-services { 10.96.0.60 . tcp . 80 }": "elements = { 10.96.0.60 . tcp . 80 : goto refused }",
    }

    async def nft(*argv: str) -> str:
        return answers.get(" ".join(argv[4:]), "")

    seen = await tables.seen(nft, "10.96.0.50", 80, "TCP")
    assert seen.endpoints == (EndpointSeen("10.244.1.5", 8080), EndpointSeen("10.244.2.5", 8080))
    assert (await tables.seen(nft, "fd00::50", 80, "TCP")).endpoints == (EndpointSeen("fd00:1::5", 8080),)
    refused = await tables.seen(nft, "10.96.0.60", 80, "TCP")
    assert (refused.present, refused.refuses) == (True, True)
    assert not (await tables.seen(nft, "10.96.0.99", 80, "TCP")).present
