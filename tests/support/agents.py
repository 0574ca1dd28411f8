"""Agents of a lab's hosts that begin anew, or have lost their server for a while."""

from __future__ import annotations

import json
import os
from functools import partial

from orca.lab import host as hosts
from orca.lab.host import call
from orca.lab.layout import Host, Lab, LabError
from orca.lab.services import AGENT
from tests.support.kubectl import Kubectl, eventually

_METRICS = "http://127.0.0.1:10249/metrics"
_SYNCED = 'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}'


def wait_for_rules(host: Host) -> None:
    """Returns once the host's agent has written the rules of Services: until then those of its forerunner stand, which
    know nothing of what is made meanwhile."""

    def synced() -> bool:
        lines = call(host, "curl", "-s", "--max-time", "5", _METRICS, check=False).splitlines()
        return any(line.startswith(_SYNCED) and float(line.split()[-1]) > 0 for line in lines)

    eventually(synced, what=f"the rules of {host.name} are written")


def wait_for_next_agent(host: Host, dead: int) -> None:
    """Returns once the host's agent is another one than that process, and has written its rules."""

    def another() -> bool:
        try:
            return hosts.service_pid(host, AGENT) != dead
        except LabError:
            return False  # between two lives

    eventually(another, what=f"the next agent of {host.name}")
    wait_for_rules(host)


def wait_until_followed(lab: Lab, admin: Kubectl) -> None:
    """Returns once all nodes are Ready and every host's rules have what is made now: an agent that has lost the server
    comes back to it after a while, and a node is Ready before all that its agent watches goes on."""
    admin("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")
    name = f"followed-{os.getpid()}"
    # As Service `kubernetes` it leads to the server itself, on whichever host one asks.
    made = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"port": 443, "targetPort": 6443}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 6443, "protocol": "TCP"}],
            "endpoints": [{"addresses": [lab.host(0).address], "conditions": {"ready": True}}],
        },
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    try:
        shown = json.loads(admin("apply", "-f", "-", "-o", "json", stdin=text))["items"]
        address = next(one["spec"]["clusterIP"] for one in shown if one["kind"] == "Service")
        for host in lab.hosts:
            eventually(partial(_answers, host, address), what=f"{host.name} follows the server")
    finally:
        admin.try_("delete", f"service/{name}", f"endpointslice/{name}", "--ignore-not-found")


def _answers(host: Host, address: str) -> bool:
    """Whether who listens on this address says to the host that it is ready."""
    return call(host, "curl", "-ks", "--max-time", "2", f"https://{address}/readyz", check=False) == "ok"
