"""The lab's segment: a bridge, one network namespace and cable a host, and the rules that keep its traffic inside.

The rules live in one nftables table of the lab's own. They drop what the lab's hosts send to the outside, and what this
machine itself would send to pod, service or lab addresses by any other way than the lab's bridges.
"""

from __future__ import annotations

import json
import shutil
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from orca.lab.layout import POD_CIDR, SERVICE_CIDR, Host, Lab
from orca.lab.shell import ip_batch, run, succeeds

SEGMENTS = IPv4Network("172.30.0.0/16")
NAMESPACES = Path("/run/netns")
BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def build(lab: Lab) -> None:
    """Bridge, rules, namespaces and cables; what is there already is left as it is."""
    _load_rules(lab)
    links = _links()
    if lab.bridge not in links:
        ip_batch(
            [
                f"link add {lab.bridge} type bridge",
                f"addr add {lab.gateway}/24 dev {lab.bridge}",
                f"link set {lab.bridge} up",
            ]
        )
    if BRIDGE_NETFILTER.exists():
        # Frames on the bridge pass the machine's FORWARD chain, which Docker sets to drop.
        passing = _pass_rule(lab)
        if not succeeds("iptables", "-w", "-C", *passing):
            run("iptables", "-w", "-I", *passing)
    if lab.nat:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for host in lab.hosts:
        if not (NAMESPACES / host.netns).exists():
            _plug_in(lab, host)


def _plug_in(lab: Lab, host: Host) -> None:
    run("ip", "netns", "add", host.netns)
    ip_batch(
        [
            f"link add {host.link} type veth peer name eth0 netns {host.netns}",
            f"link set {host.link} master {lab.bridge}",
            f"link set {host.link} up",
        ]
    )
    ip_batch(
        [
            "link set lo up",
            f"addr add {host.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {lab.gateway}",
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
        if lab.bridge in (link, about.get("master")):
            run("ip", "link", "delete", link, check=False)
    if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        run("umount", str(NAMESPACES), check=False)  # ``ip netns add`` mounts it for the first namespace
    if BRIDGE_NETFILTER.exists() and shutil.which("iptables"):
        run("iptables", "-w", "-D", *_pass_rule(lab), check=False)
    if shutil.which("nft"):
        run("nft", "delete", "table", "inet", lab.table, check=False)


def rules(lab: Lab) -> str:
    """The lab's nftables table as text for ``nft -f -``; replaces a former one in one transaction."""
    outside = f'iifname "{lab.bridge}" oifname != "{lab.bridge}"'
    forward = f"{outside} accept" if lab.nat else f"{outside} drop"
    masquerade = (
        f"chain postrouting {{ type nat hook postrouting priority 100; "
        f'ip saddr {lab.prefix}.0/24 oifname != "{lab.bridge}" masquerade; }}'
        if lab.nat
        else ""
    )
    return f"""table inet {lab.table} {{}}
delete table inet {lab.table}
table inet {lab.table} {{
  chain forward {{
    type filter hook forward priority -10;
    ip daddr {{ {POD_CIDR}, {SERVICE_CIDR}, {lab.prefix}.0/24 }} oifname != "orca-*" drop
    {forward}
  }}
  chain output {{
    type filter hook output priority -10;
    oifname "lo" accept
    ip daddr {{ {POD_CIDR}, {SERVICE_CIDR}, {lab.prefix}.0/24 }} oifname != "orca-*" drop
  }}
  {masquerade}
}}
"""


def _pass_rule(lab: Lab) -> list[str]:
    return ["FORWARD", "-i", lab.bridge, "-o", lab.bridge, "-m", "comment", "--comment", lab.bridge, "-j", "ACCEPT"]


def _load_rules(lab: Lab) -> None:
    run("nft", "-f", "-", text=rules(lab))


def _links() -> dict[str, dict[str, Any]]:
    """Link name -> what ``ip`` says of it (flags, master), in this machine's own namespace."""
    return {link["ifname"]: link for link in json.loads(run("ip", "-json", "link") or "[]")}


def _namespaces() -> list[str]:
    return [entry["name"] for entry in json.loads(run("ip", "-json", "netns", "list") or "[]")]
