"""From the pod to an address: the pod itself, the name it uses, and what DNS says to it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from orca.api.objects import name, namespace
from orca.explain.trace.facts import Facts, Lookup, ready_condition
from orca.explain.trace.names import candidates, expected_name
from orca.explain.trace.steps import Step, broken, ok, unknown


def of_pod(facts: Facts) -> Iterable[Step]:
    """Whether the pod is in a state to connect to anything."""
    who = f"pod {namespace(facts.pod)}/{name(facts.pod)}"
    status = facts.pod.get("status") or {}
    phase = str(status.get("phase") or "Pending")
    if not facts.pod_node:
        why = next(
            (str(c.get("message")) for c in status.get("conditions") or () if c.get("type") == "PodScheduled"), ""
        )
        yield broken(
            "pod", f"{who} runs nowhere", why or "it is not scheduled yet", f"kubectl describe pod {name(facts.pod)}"
        )
        return
    if phase in ("Succeeded", "Failed"):
        yield broken(
            "pod", f"{who} has ended ({phase})", "a pod that has ended connects to nothing", "trace a pod that runs"
        )
        return
    if not facts.pod_ips:
        yield broken("pod", f"{who} has no address yet", f"it is {phase}", f"kubectl describe pod {name(facts.pod)}")
        return
    if facts.node is None:
        yield broken(
            "pod",
            f"{who} is on {facts.pod_node}, a node that is gone",
            "its node was deleted",
            f"kubectl delete pod {name(facts.pod)} --force",
        )
        return
    ready, why = ready_condition(facts.node)
    if not ready:
        yield broken(
            "pod",
            f"{who} is on {facts.pod_node}, which is NotReady",
            why,
            f"see why orca-agent on {facts.pod_node} does not report",
        )
        return
    addresses = ", ".join(facts.pod_ips)
    extra = ", in its host's network" if facts.host_network else ""
    yield ok("pod", f"{who} is {phase} on {facts.pod_node} with {addresses}{extra}")


def of_name(facts: Facts) -> Iterable[Step]:
    """Whether the pod's resolver leads its name to the Service that is meant."""
    host, own = facts.wish.host, namespace(facts.pod)
    if _address(host):
        yield ok("name", f"{host} is an address: nothing has to be resolved")
        return
    if facts.service is None:
        places = ", ".join(facts.elsewhere)
        bare = facts.name or host.split(".")[0]
        if facts.elsewhere and facts.namespace == own and "." not in host:
            yield broken(
                "name",
                f"there is no Service {bare} in the pod's namespace {own}",
                f"a name without namespace is looked for there; Services of that name are in: {places}",
                f"use the name {bare}.{facts.elsewhere[0]}",
            )
        elif facts.elsewhere and not _answered(facts):
            yield broken(
                "name",
                f"{host} names no Service",
                f"Services called {bare} are in: {places}",
                f"use the name {bare}.{facts.elsewhere[0]}",
            )
        elif facts.name and not _answered(facts):
            yield broken(
                "name",
                f"there is no Service {facts.name} in namespace {facts.namespace}",
                "no Service of that name is anywhere",
                f"create the Service {facts.name}, or correct the name",
            )
        else:
            yield ok("name", f"{host} is a name of the outside")
        return
    resolver = facts.resolver
    policy = str((facts.pod.get("spec") or {}).get("dnsPolicy") or "ClusterFirst")
    if resolver is None:
        yield unknown(
            "name",
            f"{host} means Service {facts.service_key}",
            _asked(facts, facts.pod_node) or "the pod's resolv.conf cannot be read",
        )
        return
    if facts.cluster_dns and not set(resolver.nameservers) & set(facts.cluster_dns):
        yield broken(
            "name",
            f"the pod does not ask the cluster's DNS but {', '.join(resolver.nameservers) or 'nobody'}",
            _why_not_cluster(policy, facts),
            _fix_policy(policy, facts),
        )
        return
    names = candidates(host, resolver)
    full = expected_name(facts.namespace, facts.name, facts.domain)
    if not any(each == full or each.endswith("." + full) for each in names):
        yield broken(
            "name",
            f"{host} never becomes {full} in this pod",
            f"its search domains are: {', '.join(resolver.searches) or 'none'} (ndots {resolver.ndots})",
            f"use the name {full}",
        )
        return
    yield ok(
        "name", f"{host} becomes {full}", f"search {' '.join(resolver.searches) or '(none)'}, ndots {resolver.ndots}"
    )


def of_dns(facts: Facts) -> Iterable[Step]:
    """What the pod's nameserver answered when it was asked from the pod's network."""
    if _address(facts.wish.host) or (facts.service is None and facts.name and not facts.lookups):
        return
    if not facts.lookups:
        yield unknown(
            "dns",
            "the pod's nameserver was not asked",
            _asked(facts, facts.pod_node) or "the pod's host answered nothing",
        )
        return
    silent = [lookup for lookup in facts.lookups if lookup.error]
    if silent and not any(lookup.rcode for lookup in facts.lookups):
        server = silent[0].nameserver
        ours = server in facts.cluster_dns
        fix = (
            f"if NetworkPolicies isolate the pod, allow egress to {server} port 53 (UDP and TCP); "
            f"else see orca-agent on {facts.pod_node}"
            if ours
            else f"see whether {server} can be reached from {facts.pod_node}"
        )
        yield broken("dns", f"{server} does not answer the pod", silent[0].error, fix)
        return
    found = [lookup for lookup in facts.lookups if lookup.addresses]
    if not found:
        yield from _nothing_found(facts)
        return
    server, asked = found[0].nameserver, found[0].name
    addresses = tuple(dict.fromkeys(address for lookup in found for address in lookup.addresses))
    details = tuple(_line(lookup) for lookup in facts.lookups if lookup.rcode)
    wanted = _expected(facts)
    if wanted and not set(addresses) & set(wanted):
        yield broken(
            "dns",
            f"{server} says {asked} is {', '.join(addresses)}",
            f"the Service has {', '.join(sorted(wanted))}: the answer is of another name, or out of date",
            f"use {expected_name(facts.namespace, facts.name, facts.domain)}.; if that is wrong too, see "
            f"orca-agent on {facts.pod_node}",
            *details,
        )
        return
    families = {_family(ip) for ip in facts.pod_ips}
    if not any(_family(ip) in families for ip in addresses):
        yield broken(
            "dns",
            f"{asked} has only addresses of IPv{_family(addresses[0])}: {', '.join(addresses)}",
            f"the pod has only IPv{'/'.join(map(str, sorted(families)))}",
            "give the Service ipFamilyPolicy: PreferDualStack, or the pod an address of that family",
            *details,
        )
        return
    yield ok("dns", f"{server} says {asked} is {', '.join(addresses)}", *details)


def _nothing_found(facts: Facts) -> Iterable[Step]:
    lookups = facts.lookups
    server = lookups[0].nameserver
    details = tuple(_line(lookup) for lookup in lookups)
    failed = [lookup for lookup in lookups if lookup.rcode not in ("NOERROR", "NXDOMAIN", "")]
    if failed:
        why = f"it answers {failed[0].rcode}"
        if facts.kind == "ExternalName" or facts.service is None:
            fix = f"see whether the nameservers of {facts.pod_node} answer for that name"
        else:
            fix = f"see whether orca-agent on {facts.pod_node} reaches the API server"
        yield broken("dns", f"{server} does not know", why, fix, *details)
    elif facts.service is None:
        yield broken(
            "dns",
            f"no name that {facts.wish.host} can become is there",
            f"{server} denies all of them",
            "correct the name",
            *details,
        )
    elif facts.kind == "ExternalName":
        target = (facts.service.get("spec") or {}).get("externalName")
        yield broken(
            "dns",
            f"{facts.service_key} is an alias for {target}, which has no address",
            f"{server} finds none",
            "correct spec.externalName of the Service",
            *details,
        )
    elif facts.kind == "Headless":
        yield broken(
            "dns",
            f"{facts.service_key} is headless and has no ready endpoint, so its name is not there",
            "names of headless Services are the addresses of their ready pods",
            "see the endpoints below; publishNotReadyAddresses: true shows pods before they are ready",
            *details,
        )
    else:
        yield broken(
            "dns",
            f"{server} has no address for {facts.service_key}",
            "the Service is there, but DNS on the pod's host does not know it",
            f"see whether orca-agent on {facts.pod_node} reaches the API server",
            *details,
        )


def _expected(facts: Facts) -> set[str]:
    if facts.cluster_ips:
        return set(facts.cluster_ips)
    return {target.ip for target in facts.targets} if facts.kind == "Headless" else set()


def _why_not_cluster(policy: str, facts: Facts) -> str:
    if policy == "ClusterFirst" and facts.host_network:
        return "with hostNetwork, dnsPolicy ClusterFirst means that of the host"
    if policy in ("Default", "None"):
        return f"its dnsPolicy is {policy}"
    return "its resolv.conf names others"


def _fix_policy(policy: str, facts: Facts) -> str:
    if facts.host_network:
        return "set dnsPolicy: ClusterFirstWithHostNet in the pod"
    if policy == "None":
        return f"add {', '.join(facts.cluster_dns)} to dnsConfig.nameservers of the pod"
    return "set dnsPolicy: ClusterFirst in the pod"


def _answered(facts: Facts) -> bool:
    return any(lookup.addresses for lookup in facts.lookups)


def _asked(facts: Facts, node: str) -> str:
    problem = facts.problems.get(node)
    return f"the agent of {node} cannot be asked: {problem}" if problem else ""


def _line(lookup: Lookup) -> str:
    said = lookup.error or ", ".join(f"{kind} {data}" for kind, data in lookup.records) or lookup.rcode
    return f"{lookup.name} {lookup.type}: {said}"


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _family(ip: str) -> int:
    return ipaddress.ip_address(ip).version
