"""Networks as files say, what plugins are told, what flannel's plugin stands for: data, and programs of three lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.network.cni import chain
from agents.network.cni.chain import Attachment
from agents.network.cni.configs import ConfigError, NetworkConfig, first_network, read_file
from agents.network.cni.flannel import FlannelError, delegate, read_subnet
from agents.network.cni.plugins import PluginError, Plugins
from agents.network.cni.records import Record, Records
from tests.support.patience import PATIENCE

LIST = {"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "a"}, {"type": "b", "capabilities": {"x": True}}]}


def write(directory: Path, **files: Any) -> None:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name.replace("__", ".").replace("_", "-")).write_text(text)


def test_the_first_file_that_describes_a_network_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "00_notes__txt": "not looked at",
            "05_broken__conflist": "{",
            "06_empty__conflist": {"name": "x", "plugins": []},
            "10_one__conf": {"name": "one", "cniVersion": "0.4.0", "type": "ptp", "mtu": 1400},
            "20_list__conflist": LIST,
        },
    )
    network, problems = first_network(tmp_path)
    assert network is not None
    assert (network.name, network.version) == ("one", "0.4.0")
    assert network.plugins == ({"name": "one", "cniVersion": "0.4.0", "type": "ptp", "mtu": 1400},)
    assert sorted(problems) == ["05-broken.conflist", "06-empty.conflist"]
    assert first_network(tmp_path / "none") == (None, {})


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"cniVersion": "1.0.0", "plugins": [{"type": "a"}]}, "no name"),
        ({"name": "../x", "plugins": [{"type": "a"}]}, "invalid name"),
        ({"name": "n", "plugins": "a"}, "no plugins in list"),
        ({"name": "n", "plugins": [{"mtu": 1}]}, "missing 'type'"),
        ({"name": "n", "plugins": [{"type": "../../bin/sh"}]}, "missing 'type'"),
        ({"name": "n", "cniVersion": "new", "plugins": [{"type": "a"}]}, "invalid cniVersion"),
    ],
)
def test_files_that_describe_no_network(tmp_path: Path, record: Any, why: str) -> None:
    write(tmp_path, a__conflist=record)
    with pytest.raises(ConfigError, match=why):
        read_file(tmp_path / "a.conflist")


def test_what_a_plugin_is_told() -> None:
    network = NetworkConfig.of(LIST)
    told = chain.input_of(network, network.plugins[1], {"x": [1], "y": 2}, {"ips": []})
    assert told == {
        "type": "b",
        "name": "n",
        "cniVersion": "1.0.0",
        "runtimeConfig": {"x": [1]},
        "prevResult": {"ips": []},
    }
    assert chain.input_of(network, network.plugins[0], {"x": [1]}, None) == {
        "type": "a",
        "name": "n",
        "cniVersion": "1.0.0",
    }
    environment = Attachment("box", "/proc/7/ns/net", "web-0", "shop", "uid-1", {}).environment
    assert environment["CNI_ARGS"] == (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=box;K8S_POD_UID=uid-1"
    )
    assert (environment["CNI_CONTAINERID"], environment["CNI_IFNAME"]) == ("box", "eth0")


class Recorded(Plugins):
    """Answers with what a table says, and notes what was asked."""

    def __init__(self, answers: dict[tuple[str, str], Any] | None = None) -> None:
        super().__init__(())
        self.calls: list[tuple[str, str, Any]] = []
        self.answers = answers or {}

    async def run(self, command: str, config: Any, environment: Any) -> Any:
        self.calls.append((command, config["type"], config.get("prevResult")))
        answer = self.answers.get((command, config["type"]), {})
        if isinstance(answer, Exception):
            raise answer
        return answer


BOX = Attachment("box", "", "p", "ns", "u", {})


async def test_each_plugin_has_the_result_of_the_one_before_and_they_end_backwards() -> None:
    network = NetworkConfig.of(LIST)
    plugins = Recorded({("ADD", "a"): {"step": 1}, ("ADD", "b"): {"step": 2}})
    result = await chain.add(plugins, network, BOX)
    await chain.check(plugins, network, BOX, result)
    await chain.delete(plugins, network, BOX, result)
    assert plugins.calls == [
        ("ADD", "a", None),
        ("ADD", "b", {"step": 1}),
        ("CHECK", "a", {"step": 2}),
        ("CHECK", "b", {"step": 2}),
        ("DEL", "b", {"step": 2}),
        ("DEL", "a", {"step": 2}),
    ]


async def test_old_versions_know_no_check_and_no_results_at_the_end() -> None:
    network = NetworkConfig.of({**LIST, "cniVersion": "0.3.1"})
    plugins = Recorded()
    await chain.check(plugins, network, BOX, {"step": 2})
    await chain.delete(plugins, network, BOX, {"step": 2})
    assert plugins.calls == [("DEL", "b", None), ("DEL", "a", None)]
    await chain.check(plugins, NetworkConfig.of({**LIST, "disableCheck": True}), BOX, {})
    assert len(plugins.calls) == 2


@pytest.mark.parametrize(
    ("result", "addresses"),
    [
        ({"ips": [{"address": "10.1.0.2/24"}, {"address": "fd00::2/64"}]}, ["10.1.0.2", "fd00::2"]),
        ({"ips": [{"version": "4", "address": "10.1.0.2/24"}]}, ["10.1.0.2"]),
        ({"ip4": {"ip": "10.1.0.2/24"}, "ip6": {"ip": "fd00::2/64"}}, ["10.1.0.2", "fd00::2"]),
        ({}, []),
    ],
)
def test_addresses_in_results_of_all_versions(result: Any, addresses: list[str]) -> None:
    assert chain.addresses_in(result) == addresses


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('echo \'{"code": 11, "msg": "busy", "details": "very"}\'; exit 1', r"\(add\): busy; very$"),
        ("echo no luck >&2; exit 3", "netplugin failed: no luck"),
        ("exit 3", "no error message: exit status 3"),
        ("echo words", "no JSON object"),
        ("kill -9 $$", "signal: 9"),
        ("sleep 60 & wait", "no answer within 0.2 s"),
    ],
)
async def test_plugins_that_fail(tmp_path: Path, text: str, why: str) -> None:
    program(tmp_path / "p", text)
    seconds = 0.2 if "no answer" in why else PATIENCE
    with pytest.raises(PluginError, match=why) as failure:
        await Plugins([tmp_path], seconds=seconds).run("ADD", {"type": "p", "name": "net"}, {})
    assert 'plugin type="p" name="net" failed' in str(failure.value)


async def test_a_plugin_is_found_in_the_first_directory_that_has_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "p").write_text("no program")
    program(
        tmp_path / "two" / "p", 'cat >/dev/null; echo "{\\"path\\": \\"$CNI_PATH\\", \\"did\\": \\"$CNI_COMMAND\\"}"'
    )
    plugins = Plugins([tmp_path / "one", tmp_path / "two"])
    answer = await plugins.run("DEL", {"type": "p", "name": "net"}, {})
    assert answer == {"path": f"{tmp_path}/one:{tmp_path}/two", "did": "DEL"}
    with pytest.raises(PluginError, match=r'failed to find plugin "q" in path \[.*/one .*/two\]'):
        await plugins.run("ADD", {"type": "q", "name": "net"}, {})


SUBNET = """FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.3.1/24
FLANNEL_IPV6_NETWORK=fd00:10:244::/56
FLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""


def test_what_flannels_plugin_stands_for(tmp_path: Path) -> None:
    (tmp_path / "subnet.env").write_text(SUBNET)
    subnet = read_subnet(tmp_path / "subnet.env")
    assert delegate({"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}}, subnet) == {
        "type": "bridge",
        "isGateway": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "mtu": 1450,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.3.0/24"}], [{"subnet": "fd00:10:244:3::/64"}]],
            "routes": [{"dst": "10.244.0.0/16"}, {"dst": "fd00:10:244::/56"}],
        },
    }
    with pytest.raises(FlannelError, match="must not have 'ipam'"):
        delegate({"delegate": {"ipam": {}}}, subnet)
    with pytest.raises(FlannelError, match=r"loadFlannelSubnetEnv failed: open .*none: no such file or directory"):
        read_subnet(tmp_path / "none")
    (tmp_path / "half").write_text("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_MTU=many\n")
    with pytest.raises(FlannelError, match="FLANNEL_SUBNET or FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"):
        read_subnet(tmp_path / "half")


def test_records_come_back_and_bad_ones_are_left_alone(tmp_path: Path) -> None:
    records = Records(tmp_path)
    record = Record(NetworkConfig.of(LIST), "box", "web-0", "shop", 7, 4026532000, {"portMappings": []})
    records.save("u1", record)
    records.save("u2", record.done({"ips": []}))
    (records.directory / "u3.json").write_text('{"network": {}}')
    again = Records(tmp_path)
    again.load()
    assert again.by_uid == records.by_uid == {"u1": record, "u2": record.done({"ips": []})}
    again.forget("u1")
    again.forget("u1")
    assert sorted(path.name for path in records.directory.iterdir()) == ["u2.json", "u3.json"]
    assert record.attachment("u1").netns == "", "a namespace that is another's now is none"
