"""Flannel's own CNI plugin is no more than a translation: what flanneld tells of this host's subnet in a file becomes
the configuration of another plugin, of the bridge as a rule. Where its program is not installed, that is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from orca.api.objects import Obj

SUBNET_FILE = "/run/flannel/subnet.env"


class FlannelError(ValueError):
    """No subnet, or a ``delegate`` that cannot be; the text is as flannel's plugin words it."""


def read_subnet(path: Path) -> dict[str, str]:
    """``FLANNEL_…=…`` lines. Raises ``FlannelError``."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        text = f"open {path}: {(error.strerror or str(error)).lower()}"
        raise FlannelError(f"loadFlannelSubnetEnv failed: {text}") from error
    found = dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    has_network = "FLANNEL_NETWORK" in found or "FLANNEL_IPV6_NETWORK" in found
    has_subnet = "FLANNEL_SUBNET" in found or "FLANNEL_IPV6_SUBNET" in found
    missing = [
        key
        for key, there in (
            ("FLANNEL_NETWORK or FLANNEL_IPV6_NETWORK", has_network),
            ("FLANNEL_SUBNET or FLANNEL_IPV6_SUBNET", has_subnet),
            ("FLANNEL_MTU", found.get("FLANNEL_MTU", "").isdigit()),
            ("FLANNEL_IPMASQ", found.get("FLANNEL_IPMASQ") in ("true", "false")),
        )
        if not there
    ]
    if missing:
        raise FlannelError(f"{path} is missing {', '.join(missing)}")
    return found


def delegate(plugin: Mapping[str, Any], subnet: Mapping[str, str]) -> Obj:
    """The configuration that a plugin entry of ``type: flannel`` stands for. Raises ``FlannelError``."""
    wanted = plugin.get("delegate") or {}
    if not isinstance(wanted, dict):
        raise FlannelError("'delegate' must be a dictionary")
    if "name" in wanted:
        raise FlannelError("'delegate' dictionary must not have 'name' field, it'll be set by flannel")
    if "ipam" in wanted:
        raise FlannelError("'delegate' dictionary must not have 'ipam' field, it'll be set by flannel")
    kind = wanted.get("type", "bridge")
    if not isinstance(kind, str) or "/" in kind:
        raise FlannelError("'delegate' dictionary, if present, must have (string) 'type' field")
    defaults: Obj = {
        "type": kind,
        # Whoever masquerades: flanneld does, or the plugin.
        "ipMasq": subnet["FLANNEL_IPMASQ"] == "false",
        "mtu": int(subnet["FLANNEL_MTU"]),
    }
    if kind == "bridge":
        defaults["isGateway"] = True
    made: Obj = {**defaults, **wanted}
    ranges, routes = [], []
    for prefix in ("FLANNEL", "FLANNEL_IPV6"):
        if own := subnet.get(f"{prefix}_SUBNET"):
            ranges.append([{"subnet": own}])
        # More than one network is told with commas.
        routes += [{"dst": one} for one in subnet.get(f"{prefix}_NETWORK", "").split(",") if one]
    made["ipam"] = {**(plugin.get("ipam") or {}), "type": "host-local", "ranges": _networks(ranges), "routes": routes}
    if "capabilities" in plugin:
        made["capabilities"] = plugin["capabilities"]
    return made


def _networks(ranges: list[list[dict[str, str]]]) -> list[list[dict[str, str]]]:
    """flanneld writes the gateway's address as the subnet; host-local wants the network's."""
    return [[{"subnet": str(ip_interface(one["subnet"]).network)} for one in group] for group in ranges]
