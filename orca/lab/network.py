"""The lab's segments: a bridge each, a network namespace and cable a host, and the rules that keep its traffic inside.

This machine is the router between several segments. It knows nothing of pods, as routers do: packets with their
addresses do not pass it.
The rules live in one nftables table of the lab's own. They drop what the lab's hosts send to the outside, and what this
machine itself would send to pod, service or lab addresses by any other way than the lab's bridges.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from orca.lab.layout import POD_CIDR, POD_CIDR6, SERVICE_CIDR, SERVICE_CIDR6, Host, Lab
from orca.lab.shell import ip_batch, run, succeeds

SEGMENTS = IPv4Network("172.30.0.0/16")
NAMESPACES = Path("/run/netns")
BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def build(lab: Lab) -> None:
    """Bridge, rules, namespaces and cables; what is there already is left as it is."""
    _load_rules(lab)
    links = _links()
    for segment, bridge in enumerate(lab.bridges):
        if bridge not in links:
            length = lab.segment_range(segment).prefixlen
            ip_batch(
                [
                    f"link add {bridge} type bridge",
                    f"addr add {lab.segment_gateway(segment)}/{length} dev {bridge}",
                    f"link set {bridge} up",
                ]
            )
    if BRIDGE_NETFILTER.exists() or (lab.segments > 1 and shutil.which("iptables")):
        # Frames on a bridge pass the machine's FORWARD chain, which Docker sets to drop.
        for passing in _pass_rules(lab):
            if not succeeds("iptables", "-w", "-C", *passing):
                run("iptables", "-w", "-I", *passing)
    if lab.nat or lab.segments > 1:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for host in lab.hosts:
        if not (NAMESPACES / host.netns).exists():
            _plug_in(lab, host)


def _plug_in(lab: Lab, host: Host) -> None:
    run("ip", "netns", "add", host.netns)
    ip_batch(
        [
            f"link add {host.link} type veth peer name eth0 netns {host.netns}",
            f"link set {host.link} master {lab.bridges[host.segment]}",
            f"link set {host.link} up",
        ]
    )
    ip_batch(
        [
            "link set lo up",
            f"addr add {host.address}/{lab.segment_range(host.segment).prefixlen} dev eth0",
            *([f"addr add {host.address6}/64 dev eth0 nodad"] if host.address6 else []),
            "link set eth0 up",
            f"route add default via {host.gateway}",
        ],
        netns=host.netns,
    )


def set_cable(host: Host, *, up: bool) -> None:
    """Plug the host's cable in or pull it."""
    run("ip", "link", "set", host.link, "up" if up else "down")


def cable_is_up(host: Host) -> bool:
    return "UP" in _links().get(host.link, {}).get("flags", [])


def in_use() -> dict[int, str]:
    """Lab number -> the link that has addresses of that lab's /24 on this machine, whoever made it."""
    found: dict[int, str] = {}
    for route in json.loads(run("ip", "-json", "-4", "route", "show") or "[]"):
        if route.get("dst", "default") != "default":
            for number in numbers_within(IPv4Network(route["dst"])):
                found.setdefault(number, route.get("dev", "another route"))
    return found


def numbers_within(reached: IPv4Network) -> range:
    """The lab numbers whose /24 shares addresses with a route.

    A wider route than the labs' /16 is somebody's way to elsewhere (a VPN's 172.16.0.0/12, say) and takes none.
    """
    if reached.prefixlen < SEGMENTS.prefixlen or not reached.subnet_of(SEGMENTS):
        return range(0)
    first = reached.network_address.packed[2]
    return range(first, first + max(1, reached.num_addresses // 256))


def remove(lab: Lab) -> None:
    """Take away every link, namespace and rule of the lab; what is gone already is no error."""
    for netns in _namespaces():
        if netns.startswith(f"{lab.bridge}-host-"):
            run("ip", "netns", "delete", netns, check=False)
    for link, about in _links().items():
        if link in lab.bridges or about.get("master") in lab.bridges:
            run("ip", "link", "delete", link, check=False)
    if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        run("umount", str(NAMESPACES), check=False)  # ``ip netns add`` mounts it for the first namespace
    if BRIDGE_NETFILTER.exists() and shutil.which("iptables"):
        for passing in _pass_rules(lab):
            run("iptables", "-w", "-D", *passing, check=False)
    if shutil.which("nft"):
        run("nft", "delete", "table", "inet", lab.table, check=False)


def rules(lab: Lab) -> str:
    """The lab's nftables table as text for ``nft -f -``; replaces a former one in one transaction."""
    bridges = _set(lab.bridges)
    outside = f"iifname {bridges} oifname != {bridges}"
    inside = [
        f'iifname "{one}" oifname {_set(other for other in lab.bridges if other != one)} {foreign} drop'
        for one in lab.bridges[: lab.segments if lab.segments > 1 else 0]
        for foreign in (f"ip saddr != {lab.prefix}.0/24", f"ip daddr != {lab.prefix}.0/24", "meta nfproto ipv6")
    ]
    forward = f"{outside} accept" if lab.nat else f"{outside} drop"
    masquerade = (
        f"chain postrouting {{ type nat hook postrouting priority 100; "
        f"ip saddr {lab.prefix}.0/24 oifname != {bridges} masquerade; }}"
        if lab.nat
        else ""
    )
    between = "\n    ".join(inside)
    return f"""table inet {lab.table} {{}}
delete table inet {lab.table}
table inet {lab.table} {{
  chain forward {{
    type filter hook forward priority -10;
    ip daddr {{ {POD_CIDR}, {SERVICE_CIDR}, {lab.prefix}.0/24 }} oifname != "orca-*" drop
    ip6 daddr {{ {POD_CIDR6}, {SERVICE_CIDR6}, fd30::/16 }} oifname != "orca-*" drop
    {between}
    {forward}
  }}
  chain output {{
    type filter hook output priority -10;
    oifname "lo" accept
    ip daddr {{ {POD_CIDR}, {SERVICE_CIDR}, {lab.prefix}.0/24 }} oifname != "orca-*" drop
    ip6 daddr {{ {POD_CIDR6}, {SERVICE_CIDR6}, fd30::/16 }} oifname != "orca-*" drop
  }}
  {masquerade}
}}
"""


def _set(links: Iterable[str]) -> str:
    """As nft reads it."""
    quoted = ", ".join(f'"{link}"' for link in links)
    return f"{{ {quoted} }}"


def _pass_rules(lab: Lab) -> list[list[str]]:
    return [
        ["FORWARD", "-i", one, "-o", other, "-m", "comment", "--comment", lab.bridge, "-j", "ACCEPT"]
        for one in lab.bridges
        for other in lab.bridges
    ]


def _load_rules(lab: Lab) -> None:
    run("nft", "-f", "-", text=rules(lab))


def _links() -> dict[str, dict[str, Any]]:
    """Link name -> what ``ip`` says of it (flags, master), in this machine's own namespace."""
    return {link["ifname"]: link for link in json.loads(run("ip", "-json", "link") or "[]")}


def _namespaces() -> list[str]:
    return [entry["name"] for entry in json.loads(run("ip", "-json", "netns", "list") or "[]")]
