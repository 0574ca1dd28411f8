"""Each way it can break is found where it breaks, with the reason and something that helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orca.explain.trace.explain import explain, first_break
from orca.explain.trace.facts import HostRules, Judgement, Listener, Lookup, Resolver, Route, RuleEndpoint, Wish
from orca.explain.trace.steps import Outcome
from tests.unit.explain.working import (
    CLUSTER_IP,
    DNS,
    READY,
    WEB_1,
    WEB_2,
    breaks,
    node,
    outcomes,
    pod,
    service,
    target,
    working,
)

NOTHING: dict[str, Any] = {"service": None, "port": None, "selected": (), "targets": (), "rules": (), "connections": {}}
DENIED = Lookup("web.shop.svc.cluster.local", "A", DNS, "NXDOMAIN")


def test_nothing_is_broken() -> None:
    facts = working()
    assert first_break(explain(facts)) is None
    assert set(outcomes(facts).values()) == {Outcome.OK}
    assert list(outcomes(facts)) == [
        "pod", "name", "dns", "service", "endpoints", "rules", "policy", "listening", "connection", "reply",
    ]  # fmt: skip
    rules = next(step for step in explain(facts) if step.stage == "rules")
    assert "7 connections begun" in rules.says
    assert rules.details == ("10.244.1.5:8080: 4 connections begun", "10.244.2.5:8080: 3 connections begun")


# --- the pod ---------------------------------------------------------------------------------------------------------


def test_pod_that_does_not_run_ends_the_story() -> None:
    ended = pod("client", "10.244.1.2", "host-1")
    ended["status"]["phase"] = "Succeeded"
    assert breaks(working(pod=ended)).stage == "pod"
    assert len(explain(working(pod=ended))) == 1
    homeless = pod("client", "", "")
    homeless["status"] = {"conditions": [{"type": "PodScheduled", "message": "0/3 nodes are available"}]}
    assert breaks(working(pod=homeless, node=None)).why == "0/3 nodes are available"
    assert "NotReady" in breaks(working(node=node("host-1", ready=False))).says


# --- names -----------------------------------------------------------------------------------------------------------


def test_no_such_service() -> None:
    step = breaks(working(**NOTHING, lookups=(DENIED,)))
    assert (step.stage, step.says) == ("name", "there is no Service web in namespace shop")


def test_name_needs_a_namespace() -> None:
    facts = working(**NOTHING, lookups=(DENIED,), elsewhere=("store",))
    step = breaks(facts)
    assert (step.stage, step.fix) == ("name", "use the name web.store")


def test_namespace_that_is_misspelled() -> None:
    step = breaks(
        working(**NOTHING, wish=Wish("web.stor"), namespace="", name="", lookups=(DENIED,), elsewhere=("store",))
    )
    assert (step.stage, step.fix) == ("name", "use the name web.store")


@pytest.mark.parametrize(
    ("policy", "host_network", "fix"),
    [
        ("Default", False, "dnsPolicy: ClusterFirst"),
        ("None", False, "dnsConfig.nameservers"),
        ("ClusterFirst", True, "ClusterFirstWithHostNet"),
    ],
)
def test_pod_does_not_ask_the_clusters_dns(policy: str, host_network: bool, fix: str) -> None:
    client = pod("client", "10.244.1.2", "host-1", dnsPolicy=policy, hostNetwork=host_network)
    step = breaks(working(pod=client, resolver=Resolver(("192.0.2.1",), ("example.com",))))
    assert step.stage == "name"
    assert fix in step.fix


def test_search_domains_do_not_lead_there() -> None:
    step = breaks(working(resolver=Resolver((DNS,), ("example.com",), ("ndots:1",))))
    assert (step.stage, step.fix) == ("name", "use the name web.shop.svc.cluster.local")


# --- DNS -------------------------------------------------------------------------------------------------------------


def test_dns_does_not_answer() -> None:
    step = breaks(working(lookups=(Lookup("web.shop.svc.cluster.local", "A", DNS, error="no answer within 2 s"),)))
    assert step.stage == "dns"
    assert "NetworkPolicies" in step.fix


def test_dns_does_not_know_yet_and_dns_says_something_else() -> None:
    assert breaks(working(lookups=(replace(DENIED, rcode="SERVFAIL"),))).why == "it answers SERVFAIL"
    assert "does not know it" in breaks(working(lookups=(DENIED,))).why
    other = Lookup("web.shop.svc.cluster.local", "A", DNS, "NOERROR", (("A", "10.96.9.9"),))
    assert "out of date" in breaks(working(lookups=(other,))).why


def test_families_do_not_meet() -> None:
    web = service(clusterIP="fd00::50", clusterIPs=["fd00::50"])
    lookup = Lookup("web.shop.svc.cluster.local", "AAAA", DNS, "NOERROR", (("AAAA", "fd00::50"),))
    step = breaks(working(service=web, lookups=(lookup,), rules=(), connections={}))
    assert (step.stage, step.why) == ("dns", "the pod has only IPv4")


def test_alias_that_leads_nowhere_and_one_that_does() -> None:
    alias = service(type="ExternalName", externalName="db.example.com", clusterIP="", clusterIPs=[])
    facts = working(**{**NOTHING, "service": alias, "lookups": (DENIED,)})
    assert "db.example.com" in breaks(facts).says
    found = Lookup("web.shop.svc.cluster.local", "A", DNS, "NOERROR", (("CNAME", "db.example.com"), ("A", "192.0.2.7")))
    facts = replace(facts, lookups=(found,))
    assert first_break(explain(facts)) is None
    assert outcomes(facts) == {
        "pod": Outcome.OK, "name": Outcome.OK, "dns": Outcome.OK, "service": Outcome.NOTE,
    }  # fmt: skip


def test_a_name_of_the_outside() -> None:
    found = Lookup("www.example.com", "A", DNS, "NOERROR", (("A", "192.0.2.7"),))
    facts = working(**NOTHING, wish=Wish("www.example.com"), namespace="", name="", lookups=(found,))
    assert first_break(explain(facts)) is None
    assert breaks(replace(facts, lookups=(replace(DENIED, name="www.example.com"),))).stage == "dns"


# --- the Service -----------------------------------------------------------------------------------------------------


def test_port_that_the_service_does_not_have() -> None:
    step = breaks(working(wish=Wish("web", "8080"), port=None))
    assert (step.stage, step.fix) == ("service", "connect to port 80")
    two = service(ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}])
    assert "several ports" in breaks(working(wish=Wish("web"), service=two, port=None)).says


def test_affinity_is_told() -> None:
    facts = working(service=service(sessionAffinity="ClientIP"))
    assert first_break(explain(facts)) is None
    assert any("10800 s" in line for step in explain(facts) for line in step.details)


def test_headless_service_with_the_port_of_the_service_instead_of_the_pods() -> None:
    headless = service(clusterIP="None", clusterIPs=["None"])
    lookup = Lookup("web.shop.svc.cluster.local", "A", DNS, "NOERROR", (("A", "10.244.1.5"), ("A", "10.244.2.5")))
    targets = tuple(target(each, port=80, connection="refused") for each in (WEB_1, WEB_2))
    facts = working(service=headless, lookups=(lookup,), rules=(), connections={}, targets=targets)
    assert outcomes(facts)["service"] is Outcome.NOTE
    assert "rules" not in outcomes(facts)
    assert breaks(facts).stage == "listening"
    unready = tuple(replace(each, ready=False) for each in targets)
    step = breaks(replace(facts, targets=unready, lookups=(DENIED,)))
    assert (step.stage, "publishNotReadyAddresses" in step.fix) == ("dns", True)


# --- endpoints -------------------------------------------------------------------------------------------------------


def test_selector_matches_no_pods() -> None:
    step = breaks(working(selected=(), targets=()))
    assert (step.stage, step.says) == ("endpoints", "no pod in shop has the labels app=web")


def test_named_target_port_that_no_pod_has() -> None:
    web = service(ports=[{"name": "http", "port": 80, "targetPort": "www", "protocol": "TCP"}])
    step = breaks(working(service=web, port=web["spec"]["ports"][0], targets=()))
    assert step.stage == "endpoints"
    assert "port named www" in step.says


def test_no_selector_and_no_slice() -> None:
    assert "EndpointSlice" in breaks(working(service=service(selector=None), selected=(), targets=())).fix


def test_pods_that_are_not_ready() -> None:
    waiting = pod("web-1", "10.244.1.5", "host-1")
    waiting["status"]["conditions"] = [{**READY[0], "status": "False", "reason": "ContainersNotReady"}]
    waiting["status"]["containerStatuses"] = [{"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    step = breaks(working(targets=(target(waiting, ready=False, serving=False),), selected=(waiting,)))
    assert step.stage == "endpoints"
    assert "CrashLoopBackOff" in step.why


def test_terminating_endpoints_serve_while_there_is_nothing_else() -> None:
    leaving = target(WEB_1, ready=False, serving=True, terminating=True)
    rules = (replace(working().rules[0], endpoints=(RuleEndpoint("10.244.1.5", 8080),)),)
    assert outcomes(working(targets=(leaving,), rules=rules))["endpoints"] is Outcome.NOTE


def test_endpoints_on_a_node_that_is_not_ready() -> None:
    facts = working(nodes={"host-1": node("host-1"), "host-2": node("host-2", ready=False)})
    step = breaks(facts)
    assert (step.stage, step.says) == ("endpoints", "1 of 2 endpoints are on nodes that are NotReady")
    assert "silent" in step.why


def test_policy_local_without_a_local_endpoint() -> None:
    step = breaks(working(service=service(internalTrafficPolicy="Local"), targets=(target(WEB_2),)))
    assert (step.stage, "host-2" in step.why) == ("endpoints", True)


# --- the host's rules ------------------------------------------------------------------------------------------------


def rules(**changes: Any) -> tuple[HostRules, ...]:
    return (replace(working().rules[0], **changes),)


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (rules(present=False, endpoints=()), "has no rules for 10.96.0.50:80/TCP"),
        (rules(refuses=True, endpoints=()), "refuses connections"),
        (rules(endpoints=()), "nowhere"),
        (rules(endpoints=(RuleEndpoint("10.244.9.9", 8080),)), "still sends connections to 10.244.9.9:8080"),
    ],
)
def test_rules_of_the_host_are_not_what_they_should_be(seen: tuple[HostRules, ...], says: str) -> None:
    step = breaks(working(rules=seen))
    assert step.stage == "rules"
    assert says in step.says


def test_rules_that_leave_some_endpoints_out_are_no_fault() -> None:
    """As topology hints have it."""
    assert outcomes(working(rules=rules(endpoints=(RuleEndpoint("10.244.1.5", 8080),))))["rules"] is Outcome.NOTE


def test_what_cannot_be_read_is_unknown_and_breaks_nothing() -> None:
    facts = working(
        rules=rules(error="forbidden"),
        lookups=(),
        resolver=None,
        targets=tuple(
            target(w, judgements=None, listeners=None, route_known=False, connection="") for w in (WEB_1, WEB_2)
        ),
        connections={},
        problems={"host-1": "cannot be reached"},
    )
    assert first_break(explain(facts)) is None
    unknown = {stage for stage, outcome in outcomes(facts).items() if outcome is Outcome.UNKNOWN}
    assert unknown == {"name", "dns", "rules", "policy", "listening", "reply"}
    assert all(step.why for step in explain(facts) if step.outcome is Outcome.UNKNOWN)


# --- policies, listeners, answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["Egress", "Ingress"])
def test_policies_deny(direction: str) -> None:
    denied = Judgement(direction, False, "shop/web-1 is isolated by shop/deny, and none allows it", ("shop/deny",))
    step = breaks(working(targets=tuple(target(each, judgements=(denied,)) for each in (WEB_1, WEB_2))))
    assert step.stage == "policy"
    assert direction.lower() in step.fix
    assert "shop/deny" in step.fix


def test_nothing_listens_on_the_target_port() -> None:
    facts = working(targets=tuple(target(each, listeners=(Listener("TCP", 80),)) for each in (WEB_1, WEB_2)))
    step = breaks(facts)
    assert (step.stage, step.why, step.fix) == ("listening", "it listens on: 80", "set targetPort: 80 in the Service")


@pytest.mark.parametrize(
    ("listener", "heard"),
    [
        (Listener("TCP", 8080), True),
        (Listener("TCP", 8080, "", 6), True),
        (Listener("TCP", 8080, "10.244.1.5"), True),
        (Listener("TCP", 8080, "127.0.0.1"), False),
        (Listener("UDP", 8080), False),
    ],
)
def test_who_hears_a_connection(listener: Listener, heard: bool) -> None:
    facts = working(targets=(target(WEB_1, listeners=(listener,)), target(WEB_2)))
    assert (outcomes(facts)["listening"] is Outcome.OK) is heard
    if not heard and listener.address:
        assert "listens only on 127.0.0.1" in breaks(facts).why


@pytest.mark.parametrize(("result", "fix"), [("timeout", "firewalls"), ("refused", "listen on port 8080")])
def test_connections_that_fail_although_all_looks_well(result: str, fix: str) -> None:
    step = breaks(working(targets=(target(WEB_1), target(WEB_2, connection=result))))
    assert (step.stage, fix in step.fix) == ("connection", True)
    assert "1 of 2" in step.says


def test_only_the_services_address_fails() -> None:
    step = breaks(working(connections={f"{CLUSTER_IP}:80": "timeout"}))
    assert (step.stage, step.why) == ("connection", "the address of the Service is not translated for it")


@pytest.mark.parametrize("route", [None, Route("0.0.0.0/0", "eth0", "172.30.0.1")])
def test_no_way_back(route: Route | None) -> None:
    step = breaks(working(targets=(target(WEB_1), target(WEB_2, route_back=route))))
    assert (step.stage, step.says) == ("reply", "host-2 has no route to 10.244.1.2, the pod's address")


def test_pods_of_the_hosts_network_are_reached_as_hosts_are() -> None:
    client = pod("client", "172.30.0.11", "host-1", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    web = target(WEB_2, route_back=Route("0.0.0.0/0", "eth0", "172.30.0.1"))
    assert first_break(explain(working(pod=client, targets=(target(WEB_1), web)))) is None
