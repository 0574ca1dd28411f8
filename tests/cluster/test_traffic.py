"""Requests to a Service from outside and from inside: none fails, and they are spread evenly."""

from __future__ import annotations

import collections
import http.client
import math
import threading

from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.cluster.conftest import LAB, orca
from tests.support.kubectl import Kubectl, eventually

REPLICAS = 4
REQUESTS = 1000
FROM_A_POD = 500
"""A program is started in the pod for each."""


def _ask(address: str, port: int) -> str:
    """One request on a connection of its own; the answering pod's name, or "" when it fails."""
    try:
        connection = http.client.HTTPConnection(address, port, timeout=30)
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _deploy(kubectl: Kubectl, *, readiness: bool) -> int:
    web = workloads.who_am_i("web", REPLICAS, readiness=readiness)
    kubectl("apply", "-f", "-", stdin=workloads.text(web, workloads.service("web")))
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    return int(kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))


def _wait_for_endpoints(kubectl: Kubectl, address: str, port: int) -> None:
    slices = ["endpointslices", "-l", "kubernetes.io/service-name=web"]
    eventually(lambda: sum(len(s["endpoints"] or []) for s in kubectl.items(*slices)) == REPLICAS, what="all endpoints")
    eventually(lambda: len({_ask(address, port) for _ in range(40)} - {""}) == REPLICAS, what="all replicas answer")


def _check_even(counts: collections.Counter[str]) -> None:
    """No request failed, and chance alone would hardly ever make the replicas' shares differ so much."""
    total = counts.total()
    assert counts[""] == 0, f"{counts['']} of {total} failed"
    assert len(counts) == REPLICAS, counts
    deviation = math.sqrt(total * (REPLICAS - 1)) / REPLICAS
    assert all(abs(count - total / REPLICAS) <= 5.5 * deviation for count in counts.values()), counts


def test_node_port_from_outside_is_even_and_complete(kubectl: Kubectl, lab: Lab) -> None:
    port = _deploy(kubectl, readiness=False)
    for host in lab.hosts:
        _wait_for_endpoints(kubectl, host.address, port)
    nodes = {pod["spec"]["nodeName"] for pod in kubectl.items("pods")}
    assert nodes == {"host-1", "host-2"}
    _check_even(collections.Counter(_ask(lab.host(1).address, port) for _ in range(REQUESTS)))


def test_cluster_ip_from_a_pod_is_even_and_complete(kubectl: Kubectl, lab: Lab) -> None:
    port = _deploy(kubectl, readiness=False)
    for host in lab.hosts:  # the client may come to any
        _wait_for_endpoints(kubectl, host.address, port)
    address = kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    kubectl("apply", "-f", "-", stdin=workloads.text(workloads.pod("client")))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=120s")
    loop = f"for i in $(seq {FROM_A_POD}); do timeout 30 wget -qO- http://{address}/ || echo; done"
    answers = kubectl("exec", "client", "--", "sh", "-c", loop, timeout=550).splitlines()
    assert len(answers) == FROM_A_POD
    _check_even(collections.Counter(answers))


def test_rolling_update_under_load_drops_at_most_one_in_a_thousand(kubectl: Kubectl, lab: Lab) -> None:
    port = _deploy(kubectl, readiness=True)
    for host in lab.hosts[1:]:
        _wait_for_endpoints(kubectl, host.address, port)
    answers: list[str] = []
    stop = threading.Event()

    def load(address: str) -> None:
        while not stop.is_set():
            answers.append(_ask(address, port))

    threads = [threading.Thread(target=load, args=(host.address,)) for host in lab.hosts[1:]]
    for thread in threads:
        thread.start()
    try:
        kubectl("set", "image", "deployment/web", "web=busybox:1.28")
        kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        eventually(lambda: len(answers) >= REQUESTS, what="enough requests")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    failed = answers.count("")
    # On a machine that stops for longer than a pod's grace period, what is under way then ends with the pod.
    assert failed <= max(len(answers) / 1000, len(threads)), f"{failed} of {len(answers)} requests failed"
    assert len(set(answers) - {""}) > REPLICAS, "the load saw no new replica"


def test_udp_and_several_ports(kubectl: Kubectl, lab: Lab) -> None:
    orca("lab", "load-image", "--name", LAB, "perl")
    program = (
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 9000, Proto => 'udp') or die;"
        "while (defined(my $from = $s->recv(my $text, 1500))) { $s->send($text, 0, $from) }"
    )
    ask = (
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => shift, PeerPort => 7, Proto => 'udp') or die;"
        "$s->send('ping'); alarm 2; $s->recv(my $text, 1500); print $text"
    )
    echo = workloads.pod("echo", ["sh", "-c", 'httpd -p 8081 -h /etc && exec perl -e "$PROGRAM"'])
    echo["spec"]["containers"][0] |= {"image": "perl:5", "env": [{"name": "PROGRAM", "value": program}]}
    client = workloads.pod("client")
    client["spec"]["containers"][0]["image"] = "perl:5"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo"},
        "spec": {
            "selector": {"app": "echo"},
            "ports": [
                {"name": "web", "port": 80, "targetPort": 8081},
                {"name": "echo", "port": 7, "targetPort": 9000, "protocol": "UDP"},
            ],
        },
    }
    kubectl("apply", "-f", "-", stdin=workloads.text(echo, service, client))
    kubectl("wait", "--for=condition=Ready", "pod/echo", "pod/client", "--timeout=120s")
    address = kubectl("get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}")
    inside = ["exec", "client", "--", "sh", "-c"]
    eventually(
        lambda: "echo" in kubectl.try_(*inside, f"timeout 2 wget -qO- http://{address}/hostname").out, what="TCP"
    )
    eventually(lambda: kubectl.try_("exec", "client", "--", "perl", "-e", ask, address).out == "ping", what="UDP echo")


def test_a_service_without_endpoints_rejects_at_once(kubectl: Kubectl, lab: Lab) -> None:
    kubectl("apply", "-f", "-", stdin=workloads.text(workloads.service("nobody"), workloads.pod("client")))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=120s")
    address = kubectl("get", "service", "nobody", "-o", "jsonpath={.spec.clusterIP}")

    def refused() -> bool:
        tried = kubectl.try_("exec", "client", "--", "timeout", "5", "wget", "-qO-", f"http://{address}/")
        return "refused" in tried.err

    eventually(refused, what="connection refused")


def test_a_pod_reaches_itself_through_its_service(kubectl: Kubectl, lab: Lab) -> None:
    kubectl("apply", "-f", "-", stdin=workloads.text(workloads.who_am_i("solo", 1), workloads.service("solo")))
    kubectl("rollout", "status", "deployment/solo", "--timeout=120s")
    name = kubectl("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    address = kubectl("get", "service", "solo", "-o", "jsonpath={.spec.clusterIP}")
    ask = ["exec", name, "--", "timeout", "3", "wget", "-qO-", f"http://{address}/"]
    eventually(lambda: kubectl.try_(*ask).out.strip() == name, what="hairpin")


def test_pods_reach_each_other_across_hosts_without_nat(kubectl: Kubectl, lab: Lab) -> None:
    server = workloads.pod(
        "server",
        [
            "sh",
            "-c",
            "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /www/cgi-bin/who; "
            "chmod +x /www/cgi-bin/who; exec httpd -f -p 8080 -h /www",
        ],
        nodeName="host-1",
    )
    client = workloads.pod("client", nodeName="host-2")
    kubectl("apply", "-f", "-", stdin=workloads.text(server, client))
    kubectl("wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=120s")
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in kubectl.items("pods")}
    ask = ["exec", "client", "--", "timeout", "3", "wget", "-qO-", f"http://{addresses['server']}:8080/cgi-bin/who"]
    eventually(lambda: addresses["client"] in kubectl.try_(*ask).out, what="the client's own address")
