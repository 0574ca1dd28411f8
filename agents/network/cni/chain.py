"""A network's plugins one after the other, as libcni calls them: ADD hands each the result of the one before, CHECK and
DEL all of them the last one; DEL goes backwards."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.network.cni.configs import NetworkConfig
from agents.network.cni.flannel import SUBNET_FILE, delegate, read_subnet
from agents.network.cni.plugins import INTERFACE, PluginError, Plugins
from orca.api.objects import Obj


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's sandbox to be attached: what plugins are told of it. ``netns`` "" when its namespace is gone.

    ``capabilities``: what a plugin gets that has asked for it (``portMappings``, ``bandwidth``, ``ipRanges`` …).
    """

    sandbox: str
    netns: str
    pod: str
    namespace: str
    uid: str
    capabilities: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        arguments = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.pod,
            "K8S_POD_INFRA_CONTAINER_ID": self.sandbox,
            "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_CONTAINERID": self.sandbox,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": INTERFACE,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }


def input_of(network: NetworkConfig, plugin: Obj, capabilities: Mapping[str, Any], previous: Obj | None) -> Obj:
    """A plugin's standard input."""
    wanted = plugin.get("capabilities") or {}
    granted = {key: value for key, value in capabilities.items() if wanted.get(key) is True}
    config = {key: value for key, value in plugin.items() if key != "capabilities"}
    config |= {"name": network.name, "cniVersion": network.version}
    if granted:
        config["runtimeConfig"] = granted
    if previous is not None:
        config["prevResult"] = previous
    return config


def resolved(network: NetworkConfig, plugins: Plugins) -> NetworkConfig:
    """The network with what flannel's plugin stands for in its place, where that program is not installed. Reads
    flanneld's file. Raises ``FlannelError``."""
    if all(plugin["type"] != "flannel" for plugin in network.plugins) or plugins.find("flannel"):
        return network
    made = [
        delegate(plugin, read_subnet(Path(plugin.get("subnetFile") or SUBNET_FILE)))
        if plugin["type"] == "flannel"
        else plugin
        for plugin in network.plugins
    ]
    return NetworkConfig(network.name, network.version, tuple(made), network.disable_check)


async def add(plugins: Plugins, network: NetworkConfig, attachment: Attachment) -> Obj:
    """The last plugin's result. Raises ``PluginError``; what was made until then is for `delete` to take away."""
    result: Obj | None = None
    for plugin in network.plugins:
        config = input_of(network, plugin, attachment.capabilities, result)
        result = await plugins.run("ADD", config, attachment.environment)
    return result or {}


async def check(plugins: Plugins, network: NetworkConfig, attachment: Attachment, result: Obj) -> None:
    """Whether everything is still as ADD left it; nothing is asked of networks that do not know how. Raises
    ``PluginError``."""
    if network.disable_check or not network.at_least("0.4.0"):
        return
    for plugin in network.plugins:
        config = input_of(network, plugin, attachment.capabilities, result)
        await plugins.run("CHECK", config, attachment.environment)


async def delete(plugins: Plugins, network: NetworkConfig, attachment: Attachment, result: Obj | None) -> None:
    """Take everything away; harmless when there is nothing. Raises ``PluginError``."""
    known = result if network.at_least("0.4.0") else None
    for plugin in reversed(network.plugins):
        config = input_of(network, plugin, attachment.capabilities, known)
        await plugins.run("DEL", config, attachment.environment)


async def status(plugins: Plugins, network: NetworkConfig) -> None:
    """Whether the plugins are ready to add pods, where they can tell (1.1.0). Raises ``PluginError``."""
    if network.at_least("1.1.0"):
        for plugin in network.plugins:
            await plugins.run("STATUS", input_of(network, plugin, {}, None), {})


def addresses_in(result: Obj) -> list[str]:
    """The pod's addresses in a result of any version. Raises ``PluginError``."""
    found = [str(entry.get("address", "")) for entry in result.get("ips") or () if isinstance(entry, dict)]
    # Before 0.3.0.
    found += [str((result.get(key) or {}).get("ip", "")) for key in ("ip4", "ip6")]
    try:
        return [str(ipaddress.ip_interface(one).ip) for one in found if one]
    except ValueError as error:
        raise PluginError(f"the network's result has no address: {error}") from error
