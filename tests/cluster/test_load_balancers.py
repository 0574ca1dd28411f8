"""LoadBalancer Services without a cloud: an address from a pool, one host that answers for it, and what moves it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest

from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.cluster.conftest import LAB, orca
from tests.cluster.load import Load
from tests.support.agents import wait_until_followed
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.usefixtures("alone_on_lab")
ANNOUNCED_BY = "orca.io/announced-by"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def pools(lab: Lab, first: int, last: int) -> dict[str, object]:
    text = json.dumps([{"name": "lab", "addresses": [f"{lab.prefix}.{first}-{lab.prefix}.{last}"]}])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "load-balancer", "namespace": "kube-system"},
        "data": {"pools": text},
    }


@pytest.fixture
def balanced(kubectl: Kubectl, admin: Kubectl, lab: Lab) -> Iterator[Kubectl]:
    """Two replicas behind a LoadBalancer address, on whichever hosts."""
    admin("apply", "-n", "kube-system", "-f", "-", stdin=json.dumps(pools(lab, 200, 209)))
    # As kubeadm labels control planes: that host is not lost here.
    admin("label", "--overwrite", "node", "host-0", f"{EXCLUDED}=")
    web = workloads.who_am_i("web", 2, readiness=True)
    kubectl("apply", "-f", "-", stdin=workloads.text(web, workloads.service("web", kind="LoadBalancer")))
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    yield kubectl
    kubectl("delete", "service", "--all", "--timeout=120s")
    admin("delete", "configmap", "load-balancer", "-n", "kube-system")
    admin("label", "node", "host-0", f"{EXCLUDED}-")


def address_of(kubectl: Kubectl) -> str:
    return str(
        eventually(
            lambda: kubectl("get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"),
            what="an address",
        )
    )


def announcer_of(kubectl: Kubectl) -> str:
    notes = kubectl.json("get", "service", "web")["metadata"].get("annotations") or {}
    return str(notes.get(ANNOUNCED_BY, ""))


def mac_of(lab: Lab, address: str) -> str:
    """Whom the machine itself, as a client on the lab's segment, takes for the holder of an address."""
    shown = json.loads(
        subprocess.run(
            ["ip", "-j", "neigh", "show", address, "dev", lab.bridge], capture_output=True, check=True
        ).stdout
        or "[]"
    )
    return str(shown[0].get("lladdr", "")) if shown else ""


def mac_of_host(lab: Lab, name: str) -> str:
    shown = subprocess.run(
        ["nsenter", f"--net=/run/netns/{lab.host(name).netns}", "ip", "-j", "link", "show", "eth0"],
        capture_output=True,
        check=True,
    ).stdout
    return str(json.loads(shown)[0]["address"])


def answers(address: str) -> bool:
    """Whether one request is answered; one of two endpoints may be on a host that is away."""
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_service_has_an_address_that_one_host_answers_for(balanced: Kubectl, lab: Lab) -> None:
    address = address_of(balanced)
    assert address.startswith(f"{lab.prefix}.20")
    with Load(f"{address}:80", rate=50, at_least=50) as load:
        pass
    assert load.failures == []
    assert load.answers >= 50
    eventually(lambda: mac_of(lab, address) == mac_of_host(lab, announcer_of(balanced)), what="the announcer's MAC")

    def told() -> bool:
        shown = balanced("describe", "service", "web")
        for text in (
            "EnsuringLoadBalancer",
            "EnsuredLoadBalancer",
            "announcing from node",
            f"LoadBalancer Ingress:     {address} (VIP)",
        ):
            assert text in shown, shown
        return True

    eventually(told, what="what people are told")
    # From a host of the cluster, too, where rules answer before any neighbour does.
    with Load(f"{address}:80", rate=50, inside=lab.host(0), at_least=25) as load:
        pass
    assert load.failures == []


def test_an_excluded_host_hands_over_and_ends_at_most_what_was_under_way(
    balanced: Kubectl, admin: Kubectl, lab: Lab
) -> None:
    address, before = address_of(balanced), announcer_of(balanced)
    try:
        with Load(f"{address}:80", rate=50) as load:
            time.sleep(0.5)
            admin("label", "node", before, f"{EXCLUDED}=")
            eventually(lambda: announcer_of(balanced) not in ("", before), what="another host")
            after = announcer_of(balanced)
            eventually(lambda: mac_of(lab, address) == mac_of_host(lab, after), what="clients follow")
        # A connection that is open while its address moves ends, as with any announcer on one segment: the host that
        # takes over has never seen it. At 50 a second that is one, or as many as are open at once on a slow machine.
        assert load.failed_at_once, load.failures
        assert all("Reset" in failure for failure in load.failures), load.failures
        with Load(f"{address}:80", rate=50, at_least=25) as load:
            pass
        assert load.failures == []
    finally:
        admin("label", "node", before, f"{EXCLUDED}-")


def test_an_address_moves_within_seconds_of_its_hosts_loss(balanced: Kubectl, admin: Kubectl, lab: Lab) -> None:
    address, before = address_of(balanced), announcer_of(balanced)
    orca("lab", "partition", "--name", LAB, before)
    began = time.monotonic()
    try:
        after = eventually(lambda: _moved(balanced, before), what="another host")
        moved = time.monotonic() - began
        eventually(lambda: mac_of(lab, address) == mac_of_host(lab, after), what="clients follow")
        eventually(lambda: answers(address), what="an answer through the other host")
        print(f"address moved after {moved:.1f} s")
    finally:
        orca("lab", "heal", "--name", LAB, before)
        wait_until_followed(lab, admin)


def _moved(kubectl: Kubectl, before: str) -> str:
    """Who announces now, when that is another; fails for good when the node counts as lost by then: it takes 40 s,
    and an address moves after some eight."""
    now = announcer_of(kubectl)
    if now == before:
        return ""
    if kubectl("get", "node", before, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}") != "True":
        raise RuntimeError("the address moved when the node was lost, and not before")
    return now
