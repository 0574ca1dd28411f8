"""From endpoints to an answer: policies, who listens, what a connection does, and the way back. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from orca.explain.trace.facts import Facts, Target
from orca.explain.trace.serving import SHOWN, usable_targets
from orca.explain.trace.steps import Step, broken, ok, unknown


def of_policies(facts: Facts) -> Iterable[Step]:
    """What NetworkPolicies say of the pod's connections to the endpoints that are used."""
    targets = [target for target in usable_targets(facts) if target.judgements is not None]
    if not usable_targets(facts):
        return
    if not targets:
        why = facts.problems.get(facts.pod_node) or "no agent was asked"
        yield unknown("policy", "what NetworkPolicies say is not known", why)
        return
    denied = [
        (target, judgement) for target in targets for judgement in target.judgements or () if not judgement.allowed
    ]
    if not denied:
        reasons = dict.fromkeys(
            f"{judgement.direction}: {judgement.reason}" for target in targets for judgement in target.judgements or ()
        )
        yield ok("policy", "NetworkPolicies let the connection pass", *list(reasons)[:SHOWN])
        return
    target, judgement = denied[0]
    some = "" if len({id(t) for t, _ in denied}) == len(targets) else f" ({len(denied)} of {len(targets)} endpoints)"
    policies = ", ".join(judgement.isolating)
    rule = "egress" if judgement.direction == "Egress" else "ingress"
    peer = f"to {facts.service_key}" if rule == "egress" else "from the pod"
    yield broken(
        "policy",
        f"{rule} is denied{some}: {target}",
        judgement.reason,
        f"add an {rule} rule {peer} with port {target.port}/{facts.protocol} to one of: {policies}",
        *(f"{t}: {j.direction} {j.reason}" for t, j in denied[1:SHOWN]),
    )


def of_listening(facts: Facts) -> Iterable[Step]:
    """Whether the endpoint pods listen on the port that connections come to."""
    known = [target for target in usable_targets(facts) if target.listeners is not None]
    if not usable_targets(facts):
        return
    if not known:
        yield unknown("listening", "whether anything listens is not known", _why_unknown(facts))
        return
    deaf = [(target, _deafness(target, facts.protocol)) for target in known]
    wrong = [(target, why) for target, why in deaf if why]
    if not wrong:
        yield ok(
            "listening",
            f"all {len(known)} endpoints listen on {facts.protocol} {known[0].port}"
            if len(known) > 1
            else f"{known[0]} listens on {facts.protocol} {known[0].port}",
        )
        return
    target, why = wrong[0]
    some = "" if len(wrong) == len(known) else f" ({len(wrong)} of {len(known)} endpoints)"
    others = sorted({each.port for each in target.listeners or () if each.protocol == facts.protocol})
    fix = f"have the program listen on port {target.port} of all addresses"
    if others and not _on_loopback(target, facts.protocol):
        declared = (facts.port or {}).get("targetPort")
        fix = f"set targetPort: {others[0]} in the Service" if len(others) == 1 and declared is not None else fix
    yield broken(
        "listening",
        f"nothing in {target} takes {facts.protocol} connections on {target.port}{some}",
        why,
        fix,
        *(f"{t}: {w}" for t, w in wrong[1:SHOWN]),
    )


def _deafness(target: Target, protocol: str) -> str:
    """Why a connection finds nobody; "" when somebody listens."""
    family = ipaddress.ip_address(target.ip).version
    listeners = [each for each in target.listeners or () if each.protocol == protocol]
    on_port = [each for each in listeners if each.port == target.port]
    for each in on_port:
        # "::" takes IPv4 too, unless the program has said otherwise, which cannot be seen from here.
        if each.address == target.ip or (not each.address and (each.family == family or each.family == 6)):
            return ""
    if on_port:
        return f"it listens only on {', '.join(sorted(each.address or f'IPv{each.family}' for each in on_port))}"
    ports = ", ".join(map(str, sorted({each.port for each in listeners})))
    return f"it listens on: {ports}" if ports else f"nothing in it listens for {protocol} at all"


def _on_loopback(target: Target, protocol: str) -> bool:
    return any(each.protocol == protocol and each.port == target.port for each in target.listeners or ())


def of_connections(facts: Facts) -> Iterable[Step]:
    """How connections went that were tried from the pod's own network."""
    if facts.protocol != "TCP":
        return
    tried = [target for target in usable_targets(facts) if target.connection]
    if not tried and not facts.connections:
        return
    lines = [f"{where}: {result}" for where, result in facts.connections.items()]
    lines += [f"{target}: {target.connection}" for target in tried]
    to_service = {where: result for where, result in facts.connections.items() if result != "connected"}
    failed = [target for target in tried if target.connection != "connected"]
    if not to_service and not failed:
        yield ok("connection", "connections from the pod are taken", *lines)
        return
    if failed:
        target = failed[0]
        some = "" if len(failed) == len(tried) else f" ({len(failed)} of {len(tried)} endpoints)"
        yield broken(
            "connection",
            f"the pod does not reach {target}: {target.connection}{some}",
            _meaning(target.connection),
            _fix_connection(target.connection, facts, target),
            *lines,
        )
        return
    where, result = next(iter(to_service.items()))
    yield broken(
        "connection",
        f"the pod reaches the endpoints, but not {where}: {result}",
        "the address of the Service is not translated for it",
        f"see the rules above, and other writers of rules on {facts.pod_node}",
        *lines,
    )


def _meaning(result: str) -> str:
    if result == "refused":
        return "its host answers that nobody listens"
    if result == "timeout":
        return "packets, or answers to them, get lost: a policy, a firewall or a missing route"
    return "the pod's own network says so"


def _fix_connection(result: str, facts: Facts, target: Target) -> str:
    if result == "refused":
        return f"have the program listen on port {target.port}, or correct targetPort"
    hosts = sorted({facts.pod_node, target.node} - {""})
    where = f"between {' and '.join(hosts)}" if len(hosts) > 1 else f"on {facts.pod_node}"
    return f"see policies and routes; then firewalls {where}"


def of_reply(facts: Facts) -> Iterable[Step]:
    """Whether answers find their way back to the pod."""
    targets = [target for target in usable_targets(facts) if target.node]
    if not targets:
        return
    other = [target for target in targets if target.node != facts.pod_node]
    if not other:
        yield ok("reply", f"all endpoints are on {facts.pod_node}, as the pod is: answers come back over its bridge")
        return
    known = [target for target in other if target.route_known]
    if not known:
        why = "; ".join(f"{node}: {problem}" for node, problem in sorted(facts.problems.items())) or "nobody was asked"
        yield unknown("reply", "whether answers find their way back is not known", why)
        return
    pod_ip = facts.pod_ips[0] if facts.pod_ips else ""
    for target in known:
        route = target.route_back
        if route is None or (not facts.host_network and ipaddress.ip_network(route.destination).prefixlen == 0):
            yield broken(
                "reply",
                f"{target.node} has no route to {pod_ip}, the pod's address",
                "answers leave by its default route, or not at all",
                f"see NetworkUnavailable of {target.node} (kubectl describe node {target.node}) and its orca-agent",
            )
            return
    ways = {
        f"{target.node}: {target.route_back.destination} by {target.route_back.gateway or 'the link'} "
        f"({target.route_back.device})"
        for target in known
        if target.route_back is not None
    }
    yield ok("reply", f"answers find their way back to {pod_ip}", *sorted(ways))


def _why_unknown(facts: Facts) -> str:
    return "; ".join(f"{node}: {problem}" for node, problem in sorted(facts.problems.items())) or "no agent was asked"
