"""The lab's segment: a bridge, one network namespace and cable a host, and the rules that keep its traffic inside.

The rules live in one nftables table of the lab's own. They drop what the lab's hosts send to the outside, and what this
machine itself would send to pod, service or lab addresses by any other way than the lab's bridges.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from orca.lab.layout import POD_CIDR, SERVICE_CIDR, Host, Lab
from orca.lab.shell import ip_batch, run, succeeds

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
        if not Path("/run/netns", host.netns).exists():
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
    return "UP" in _links().get(host.link, [])


def remove(lab: Lab) -> None:
    """Take away every link, namespace and rule of the lab; what is gone already is no error."""
    for netns in _namespaces():
        if netns.startswith(f"{lab.bridge}-host-"):
            run("ip", "netns", "delete", netns, check=False)
    for link in _links():
        if link == lab.bridge or _is_cable(lab, link):
            run("ip", "link", "delete", link, check=False)
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
    ip daddr {{ {POD_CIDR}, {SERVICE_CIDR}, 172.30.0.0/16 }} oifname != "orca-*" drop
    {forward}
  }}
  chain output {{
    type filter hook output priority -10;
    oifname "lo" accept
    ip daddr {{ {POD_CIDR}, {SERVICE_CIDR}, 172.30.0.0/16 }} oifname != "orca-*" drop
  }}
  {masquerade}
}}
"""


def _pass_rule(lab: Lab) -> list[str]:
    return ["FORWARD", "-i", lab.bridge, "-o", lab.bridge, "-m", "comment", "--comment", lab.bridge, "-j", "ACCEPT"]


def _load_rules(lab: Lab) -> None:
    run("nft", "-f", "-", text=rules(lab))


def _links() -> dict[str, list[str]]:
    """Link name -> its flags, in this machine's own namespace."""
    return {link["ifname"]: link.get("flags", []) for link in json.loads(run("ip", "-json", "link") or "[]")}


def _namespaces() -> list[str]:
    return [entry["name"] for entry in json.loads(run("ip", "-json", "netns", "list") or "[]")]


def _is_cable(lab: Lab, link: str) -> bool:
    head, _, position = link.partition("h")
    return head == f"ol{lab.number}" and position.isdigit()
