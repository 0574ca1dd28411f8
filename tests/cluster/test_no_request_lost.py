"""No request fails while pods, agents, rules and the server change beneath a Service.

Requests come on connections of their own through the cluster IP (from a host of the cluster), node ports and a
LoadBalancer address (from outside), all the time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from orca.lab import host as hosts
from orca.lab.layout import Lab
from orca.lab.services import AGENT, SERVER, agent, server
from tests.cluster import workloads
from tests.cluster.conftest import LAB, orca
from tests.cluster.load import Load
from tests.cluster.test_load_balancers import address_of, announcer_of, pools
from tests.support.agents import wait_until_followed
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.usefixtures("alone_on_lab")
WANTED = 20_000


@pytest.fixture
def web(kubectl: Kubectl, admin: Kubectl, lab: Lab) -> Iterator[Kubectl]:
    """Four replicas behind all kinds of addresses; nothing in the manifest waits."""
    orca("lab", "load-image", "--name", LAB, "nginx")
    admin("apply", "-n", "kube-system", "-f", "-", stdin=json.dumps(pools(lab, 210, 219)))
    deployment = workloads.who_am_i("web", 4, readiness=True, spec={"terminationGracePeriodSeconds": 30})
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    # A server that finishes what it has begun, as most do, and at its signal takes no more connections.
    container["image"] = "nginx:1.16.1"
    container["ports"] = [{"name": "http", "containerPort": 80}]
    del container["command"]
    kubectl("apply", "-f", "-", stdin=workloads.text(deployment, workloads.service("web", kind="LoadBalancer")))
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    yield kubectl
    kubectl("delete", "service", "--all", "--timeout=120s")
    admin("delete", "configmap", "load-balancer", "-n", "kube-system")


@contextmanager
def asked(web: Kubectl, lab: Lab, rate: float) -> Iterator[list[Load]]:
    """Ask through every door while the block runs; nothing may fail."""
    spec = web.json("get", "service", "web")["spec"]
    node_port = spec["ports"][0]["nodePort"]
    outside = [f"{host.address}:{node_port}" for host in lab.hosts] + [f"{address_of(web)}:80"]
    cluster = f"{spec['clusterIP']}:80"
    loads = [Load(*outside, rate=rate)]
    loads += [Load(cluster, rate=rate / 4, inside=host) for host in lab.hosts]
    with ExitStack() as stack:
        for load in loads:
            stack.enter_context(load)
        # All doors are open before anything happens to them.
        time.sleep(1)
        yield loads
        time.sleep(1)
    failures = [failure for load in loads for failure in load.failures]
    total = sum(load.answers for load in loads)
    print(f"{total} requests, {len(failures)} failed", *failures[:50], sep="\n")
    assert failures == []
    assert all(load.answers for load in loads)


def roll(web: Kubectl, release: str) -> None:
    web("set", "env", "deployment/web", f"RELEASE={release}")
    web("rollout", "status", "deployment/web", "--timeout=180s", timeout=240)


def scale(web: Kubectl, replicas: int) -> None:
    web("scale", "deployment/web", f"--replicas={replicas}")
    eventually(
        lambda: (
            len(web.items("pods", "-l", "app=web")) == replicas
            and web.json("get", "deployment", "web")["status"].get("readyReplicas") == replicas
        ),
        what=f"{replicas} replicas",
    )


def test_a_rollout_and_an_agent_that_dies_meanwhile_lose_no_request(web: Kubectl, admin: Kubectl, lab: Lab) -> None:
    # Not the one that announces: on a machine so slow that an agent is back too late its address would move, and what
    # is under way then is lost as with any announcer. The long run below kills them all.
    kept = announcer_of(web)
    worker = next(host.name for host in lab.hosts[1:] if host.name != kept)
    with asked(web, lab, rate=60):
        orca("lab", "kill", "--name", LAB, f"agent/{worker}")
        roll(web, "1")
        scale(web, 1)
        wait_until_followed(lab, admin)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_that_happens_to_a_cluster_loses_one_of_twenty_thousand_requests(
    web: Kubectl, admin: Kubectl, lab: Lab
) -> None:
    with asked(web, lab, rate=120) as loads:
        roll(web, "1")
        scale(web, 10)
        scale(web, 2)
        scale(web, 10)
        worker = lab.host(1)
        admin("drain", worker.name, "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=200)
        eventually(
            lambda: web.json("get", "deployment", "web")["status"].get("readyReplicas") == 10,
            what="all replicas elsewhere",
        )
        admin("uncordon", worker.name)
        roll(web, "2")
        for host in lab.hosts:
            orca("lab", "kill", "--name", LAB, f"agent/{host.name}")
        roll(web, "3")
        for mode in ("iptables", ""):
            _switch(lab, mode)
            roll(web, f"with {mode or 'its own'}")
        _server_away(lab, 60)
        eventually(lambda: admin.try_("get", "nodes").code == 0, what="the server is back")
        roll(web, "4")
    assert sum(load.answers for load in loads) >= WANTED


def _switch(lab: Lab, mode: str) -> None:
    """Start every agent again with another proxy mode, or the one it has by itself."""
    print(f"proxy mode {mode or 'of the host'} from {time.strftime('%H:%M:%S')} on")
    for host in lab.hosts:
        hosts.stop_service(host, AGENT)
        service = agent(host, "")
        more = (f"--proxy-mode={mode}",) if mode else ()
        hosts.start_service(host, replace(service, argv=(*service.argv, *more)))


def _server_away(lab: Lab, seconds: float) -> None:
    """The processes of the control plane are gone, its host is not."""
    host = lab.host(0)
    hosts.stop_service(host, SERVER)
    time.sleep(seconds)
    hosts.start_service(host, server(host))
