"""Facts of a connection that works, to be broken in one place each by tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orca.api.objects import Obj
from orca.explain.trace.explain import explain, first_break
from orca.explain.trace.facts import (
    Facts,
    HostRules,
    Judgement,
    Listener,
    Lookup,
    Resolver,
    Route,
    RuleEndpoint,
    Target,
    Wish,
)
from orca.explain.trace.steps import Outcome, Step

DNS, CLUSTER_IP = "10.96.0.10", "10.96.0.50"
READY = [{"type": "Ready", "status": "True"}]


def pod(name: str, ip: str, node: str, namespace: str = "shop", **spec: Any) -> Obj:
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": READY}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name.split("-")[0]}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": [{"containerPort": 8080}]}], **spec},
        "status": status,
    }


def node(name: str, *, ready: bool = True) -> Obj:
    condition = {"type": "Ready", "status": "True"}
    if not ready:
        condition = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}
    return {"metadata": {"name": name}, "status": {"conditions": [condition]}}


def service(**spec: Any) -> Obj:
    whole = {
        "type": "ClusterIP",
        "clusterIP": CLUSTER_IP,
        "clusterIPs": [CLUSTER_IP],
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        **spec,
    }
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": whole}


WEB_1, WEB_2 = pod("web-1", "10.244.1.5", "host-1"), pod("web-2", "10.244.2.5", "host-2")
ALLOWED = (
    Judgement("Egress", True, "no policy isolates shop/client"),
    Judgement("Ingress", True, "no policy isolates"),
)


def target(of: Obj, **changes: Any) -> Target:
    where = of["spec"]["nodeName"]
    whole: dict[str, Any] = {
        "ip": of["status"]["podIP"],
        "port": 8080,
        "ready": True,
        "serving": True,
        "terminating": False,
        "node": where,
        "pod": of,
        "pod_key": f"shop/{of['metadata']['name']}",
        "judgements": ALLOWED,
        "listeners": (Listener("TCP", 8080),),
        "connection": "connected",
        "route_known": where != "host-1",
        "route_back": Route("10.244.1.0/24", "eth0", "172.30.0.11") if where != "host-1" else None,
    }
    return Target(**{**whole, **changes})


def working(**changes: Any) -> Facts:
    web = service()
    facts = Facts(
        wish=Wish("web", "80"),
        pod=pod("client", "10.244.1.2", "host-1"),
        node=node("host-1"),
        cluster_dns=(DNS,),
        resolver=Resolver((DNS,), ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"), ("ndots:5",)),
        lookups=(Lookup("web.shop.svc.cluster.local", "A", DNS, "NOERROR", (("A", CLUSTER_IP),)),),
        namespace="shop",
        name="web",
        service=web,
        port=web["spec"]["ports"][0],
        selected=(WEB_1, WEB_2),
        targets=(target(WEB_1), target(WEB_2)),
        nodes={"host-1": node("host-1"), "host-2": node("host-2")},
        rules=(
            HostRules(
                CLUSTER_IP,
                80,
                "TCP",
                mode="iptables",
                present=True,
                packets=7,
                endpoints=(RuleEndpoint("10.244.1.5", 8080, 4), RuleEndpoint("10.244.2.5", 8080, 3)),
            ),
        ),
        connections={f"{CLUSTER_IP}:80": "connected"},
    )
    return replace(facts, **changes)


def breaks(facts: Facts) -> Step:
    """Where it breaks; fails when it does not."""
    found = first_break(explain(facts))
    assert found is not None, explain(facts)
    assert found.why
    assert found.fix
    return found


def outcomes(facts: Facts) -> dict[str, Outcome]:
    return {step.stage: step.outcome for step in explain(facts)}
