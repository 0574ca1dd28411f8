"""Pods wired by Debian's CNI plugins, with real packets."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.netlab import Host, NetLab, Pod
from tests.support.patience import PATIENCE

PLUGINS = "/usr/lib/cni"
pytestmark = pytest.mark.skipif(
    not Path(PLUGINS, "bridge").exists(), reason="no CNI plugins here: apt-get install containernetworking-plugins"
)


class CniHost:
    """A host of the lab, with directories of its own for networks, programs and what plugins keep."""

    def __init__(self, lab: NetLab, root: Path) -> None:
        self.lab, self.host = lab, lab.hosts[0]
        self.conf, self.kept, self.programs = root / "net.d", root / "kept", root / "bin"
        for directory in (self.conf, self.programs):
            directory.mkdir(parents=True)

    def network(self, file: str = "10-pods.conflist", **more: Any) -> None:
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.kept),
        }
        plugins = [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam},
            {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
            {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        ]
        text = json.dumps({"name": "pods", "cniVersion": "1.0.0", "plugins": plugins} | more)
        fresh = self.conf / "new"
        fresh.write_text(text)
        fresh.rename(self.conf / file)

    def start(self) -> None:
        if not self.host.agent:
            self.host.start_agent()
        directories = [str(self.programs), PLUGINS]
        self.host.call(
            "start_cni", root=str(self.host.root), node=self.host.node, conf_dir=str(self.conf), bin_dirs=directories
        )

    @property
    def reserved(self) -> set[str]:
        """Addresses that host-local has given out."""
        return {path.name for path in (self.kept / "pods").glob("10.*")}

    @property
    def records(self) -> set[str]:
        return {path.stem for path in (self.host.root / "network" / "cni").glob("*.json")}

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def pod(self, name: str) -> Pod:
        pod = Pod(self.host, name)
        self.host.pods.append(pod)
        return pod


@pytest.fixture(scope="module")
def cni(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CniHost]:
    root = tmp_path_factory.mktemp("cni")
    with NetLab(root, hosts=1) as lab:
        made = CniHost(lab, root)
        with pytest.raises(AssertionError, match="cni plugin not initialized"):
            made.start()
        made.network()
        made.start()
        yield made


def test_pods_reach_each_other_hosts_and_the_outside(cni: CniHost) -> None:
    host = cni.host
    a, b = host.pod("a"), host.pod("b")
    assert {a.ip, b.ip} <= cni.reserved
    b.serve("tcp:80")
    assert a.ask(b.ip, 80) == [f"b {a.ip} 80"]
    assert host.ask(b.ip, 80)[0].startswith("b ")
    assert "127.0.0.1" in a.run("ip", "addr", "show", "lo", "up")


def test_ports_and_bandwidth_reach_the_plugins_that_ask_for_them(cni: CniHost) -> None:
    host = cni.host
    pod = cni.pod("published")
    pod.attach(
        host_ports=[{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
        annotations={"kubernetes.io/ingress-bandwidth": "10M"},
    )
    pod.serve("tcp:80")
    assert cni.lab.ask(host.ip, 8080) == ["published 172.31.0.1 80"]
    assert " tbf " in host.run("tc", "qdisc", "show")
    host.call("detach", uid=pod.uid)
    assert cni.lab.ask(host.ip, 8080)[0].startswith("!Connection")
    assert pod.ip not in cni.reserved
    assert pod.uid not in cni.records


def test_an_agent_that_starts_anew_finds_what_plugins_made(cni: CniHost) -> None:
    host = cni.host
    pod = host.pod("survivor")
    before = _links(host)
    host.stop_agent()
    cni.start()
    address = pod.ip
    assert pod.attach() == address
    assert _links(host) == before
    # What CHECK does not find right is made anew.
    pod.run("ip", "route", "del", "default")
    again = pod.attach()
    assert "default via 10.244.1.1" in pod.run("ip", "route")
    assert again in pod.run("ip", "-4", "addr", "show", "eth0")
    assert (address in cni.reserved) == (again == address)


def test_the_network_that_made_a_pod_takes_it_away_whatever_files_say_by_then(cni: CniHost) -> None:
    host = cni.host
    pod = host.pod("outlived")
    host.stop_agent()
    cni.network("00-other.conflist", name="other", plugins=[{"type": "nothing"}])
    cni.start()
    with pytest.raises(AssertionError, match='failed to find plugin "nothing" in path'):
        cni.pod("unlucky").attach()
    host.call("detach", uid=pod.uid)
    assert pod.ip not in cni.reserved
    (cni.conf / "00-other.conflist").unlink()
    cni.start()


def test_half_a_pod_is_taken_back(cni: CniHost) -> None:
    # The second plugin fails on ADD once; the first one's address must not be lost.
    cni.program("tuning-once", '[ "$CNI_COMMAND" = ADD ] && echo \'{"code": 7, "msg": "not now"}\' && exit 1; exit 0')
    record = json.loads((cni.conf / "10-pods.conflist").read_text())
    cni.network("00-half.conflist", name="pods", plugins=[record["plugins"][0], {"type": "tuning-once"}])
    cni.start()
    before, pod = cni.reserved, cni.pod("half")
    with pytest.raises(
        AssertionError,
        match=r'networkPlugin cni failed to set up pod "half_default" network: '
        r'plugin type="tuning-once" name="pods" failed \(add\): not now',
    ):
        pod.attach()
    assert cni.reserved == before
    assert pod.uid not in cni.records
    (cni.conf / "00-half.conflist").unlink()
    cni.start()
    assert pod.attach() in cni.reserved


def test_an_agent_killed_in_the_middle_leaks_nothing(cni: CniHost) -> None:
    host = cni.host
    cni.program("slow", '[ "$CNI_COMMAND" = ADD ] && echo > "$0.reached" && sleep 600; cat >/dev/null; echo "{}"')
    record = json.loads((cni.conf / "10-pods.conflist").read_text())
    cni.network("00-slow.conflist", name="pods", plugins=[record["plugins"][0], {"type": "slow"}])
    cni.start()
    before, pod = cni.reserved, cni.pod("interrupted")
    assert host.agent
    assert host.agent.stdin
    order = {"uid": pod.uid, "pid": pod.holder.pid, "hostname": pod.name}
    host.agent.stdin.write(json.dumps({"method": "attach", "arguments": order}) + "\n")
    host.agent.stdin.flush()
    _until((cni.programs / "slow.reached").exists)
    assert len(cni.reserved) == len(before) + 1
    host.stop_agent()
    (cni.conf / "00-slow.conflist").unlink()
    cni.start()
    address = pod.attach()
    assert cni.reserved == before | {address}
    host.call("detach", uid=pod.uid)
    assert cni.reserved == before


def test_flannels_files_are_enough(cni: CniHost, tmp_path: Path) -> None:
    host = cni.host
    plugin = {"type": "flannel", "subnetFile": str(tmp_path / "subnet.env"), "delegate": {"bridge": "cni1"}}
    plugin["ipam"] = {"dataDir": str(cni.kept)}
    cni.network("00-flannel.conflist", name="cbr0", plugins=[plugin])
    cni.start()
    pod = cni.pod("flannelled")
    with pytest.raises(AssertionError, match=r"loadFlannelSubnetEnv failed: open .*subnet.env: no such file"):
        pod.attach()
    (tmp_path / "subnet.env").write_text(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.77.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )
    assert pod.attach().startswith("10.244.77.")
    assert "mtu 1450" in pod.run("ip", "link", "show", "eth0")
    assert "10.244.0.0/16 via 10.244.77.1" in pod.run("ip", "route")
    (cni.conf / "00-flannel.conflist").unlink()
    host.call("detach", uid=pod.uid)
    cni.start()


def test_what_the_own_network_left_goes_with_its_last_pod(tmp_path: Path) -> None:
    with NetLab(tmp_path, hosts=1) as lab:
        changed = CniHost(lab, tmp_path)
        lab.start_networks()
        last = lab.hosts[0].pod("last")
        lab.hosts[0].stop_agent()
        changed.network()
        changed.start()
        assert "orca0" in lab.hosts[0].run("ip", "link"), "a pod is still on it"
        lab.hosts[0].call("reconcile", live=[])
        assert "orca0" not in lab.hosts[0].run("ip", "link")
        pod, other = lab.hosts[0].pod("first"), lab.hosts[0].pod("second")
        other.serve("tcp:80")
        assert pod.ask(other.ip, 80) == [f"second {pod.ip} 80"]
        assert last.uid not in changed.records


def test_cleanup_has_plugins_take_everything_away(cni: CniHost) -> None:
    cni.host.call("cleanup")
    assert cni.reserved == set()
    assert cni.records == set()
    assert "ORCA" not in cni.host.run("iptables-save")
    shutil.rmtree(cni.conf)


def _until(condition: Any, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _links(host: Host) -> set[str]:
    return {line.split(": ")[1] for line in host.run("ip", "-o", "link").splitlines()}
