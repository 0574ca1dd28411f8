"""From an address to endpoints: the Service, what stands behind it, and what the pod's host has of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orca.api.objects import Obj, key, name
from orca.explain.trace.facts import Facts, HostRules, Target, address_text, ready_condition
from orca.explain.trace.steps import Step, broken, note, ok, unknown

SHOWN = 8


def of_service(facts: Facts) -> Iterable[Step]:
    """What kind of Service it is, and whether it has the port."""
    if facts.service is None:
        return
    what = f"Service {facts.service_key}"
    spec = facts.service.get("spec") or {}
    if facts.kind == "ExternalName":
        yield note(
            "service",
            f"{what} is an alias for {spec.get('externalName')}",
            why="connections go straight there: ports, rules and policies of Services do not matter",
        )
        return
    ports = list(spec.get("ports") or ())
    listed = ", ".join(_port_text(port) for port in ports) or "none"
    if facts.port is None and (ports or facts.kind != "Headless"):
        if not facts.wish.port:
            yield broken(
                "service",
                f"{what} has several ports: {listed}",
                "which one is meant was not said",
                f"orca trace {name(facts.pod)} {facts.wish.host}:{ports[0]['port'] if ports else 80}",
            )
            return
        behind = [port for port in ports if str(port.get("targetPort", "")) == facts.wish.port]
        why = f"its ports are: {listed}"
        if behind:
            why += f"; {facts.wish.port} is the targetPort of {behind[0]['port']}"
        if facts.kind == "Headless":
            why += "; a headless Service translates no ports: connections go to the pods' own"
        fix = (
            f"connect to port {behind[0]['port']}"
            if behind
            else f"add port {facts.wish.port} to the Service, or use one it has"
        )
        yield broken("service", f"{what} has no port {facts.wish.port}", why, fix)
        return
    if facts.kind == "Headless":
        yield note(
            "service",
            f"{what} is headless: the pod connects to pods themselves",
            why="no rules are involved; the port is the pods' own",
        )
        return
    assert facts.port is not None
    addresses = " and ".join(address_text(ip, int(facts.port["port"])) for ip in facts.cluster_ips)
    details = []
    if spec.get("sessionAffinity") == "ClientIP":
        seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", 10800)
        details.append(f"session affinity: this pod stays with the endpoint it first got for {seconds} s")
    if spec.get("internalTrafficPolicy") == "Local":
        details.append("internalTrafficPolicy Local: only endpoints on the pod's own node are used")
    yield ok("service", f"{what} ({facts.kind}) takes {facts.protocol} on {addresses}", *details)


def of_endpoints(facts: Facts) -> Iterable[Step]:
    """Whether anything stands behind the Service, and may be used from where the pod is."""
    if facts.service is None or facts.kind == "ExternalName" or (facts.port is None and facts.kind != "Headless"):
        return
    spec = facts.service.get("spec") or {}
    selector = spec.get("selector") or {}
    usable = usable_targets(facts)
    if not facts.targets:
        yield _no_endpoints(facts, selector)
        return
    ready = [target for target in facts.targets if target.ready]
    lines = tuple(f"{target}: {_state(target)}" for target in facts.targets[:SHOWN])
    if len(facts.targets) > SHOWN:
        lines += (f"and {len(facts.targets) - SHOWN} more",)
    if not usable and not ready:
        yield broken(
            "endpoints",
            f"none of {len(facts.targets)} endpoints is ready",
            _why_unready(facts),
            _fix_unready(facts),
            *lines,
        )
        return
    if not usable:
        places = ", ".join(sorted({target.node for target in ready if target.node})) or "nowhere that is known"
        yield broken(
            "endpoints",
            f"no ready endpoint is on {facts.pod_node}, the pod's node",
            f"internalTrafficPolicy is Local, and ready endpoints are on: {places}",
            "set internalTrafficPolicy: Cluster, or run an endpoint on every node (DaemonSet)",
            *lines,
        )
        return
    lost = [target for target in usable if target.node and not _node_is_ready(facts, target.node)]
    if lost and len(lost) == len(usable):
        yield broken(
            "endpoints",
            "all endpoints that are used are on nodes that are NotReady",
            "; ".join(sorted({f"{target.node}: {_node_why(facts, target.node)}" for target in lost})),
            "see why these nodes do not report, or start pods elsewhere",
            *lines,
        )
        return
    if lost:
        yield broken(
            "endpoints",
            f"{len(lost)} of {len(usable)} endpoints are on nodes that are NotReady",
            "; ".join(sorted({f"{target.node}: {_node_why(facts, target.node)}" for target in lost})),
            "connections to these fail until the node controller has taken them out",
            *lines,
        )
        return
    if not any(target.ready for target in usable):
        yield note(
            "endpoints",
            f"only terminating endpoints are left: {len(usable)}",
            *lines,
            why="they are used while nothing is ready",
        )
        return
    yield ok("endpoints", f"{len(usable)} of {len(facts.targets)} endpoints are used", *lines)


def usable_targets(facts: Facts) -> tuple[Target, ...]:
    """Endpoints that connections of the pod may go to: ready ones, else those that serve while they terminate."""
    targets = facts.targets
    spec = (facts.service or {}).get("spec") or {}
    if spec.get("internalTrafficPolicy") == "Local" and facts.kind != "Headless":
        targets = tuple(target for target in targets if target.node == facts.pod_node)
    ready = tuple(target for target in targets if target.ready)
    if ready or facts.kind == "Headless":
        return ready
    return tuple(target for target in targets if target.serving and target.terminating)


def of_rules(facts: Facts) -> Iterable[Step]:
    """What the kernel of the pod's host has."""
    if facts.port is None or not facts.cluster_ips:
        return
    if not facts.rules:
        why = facts.problems.get(facts.pod_node) or "its agent was not asked"
        yield unknown("rules", f"what {facts.pod_node} has of the Service is not known", why)
        return
    for rules in facts.rules:
        yield _of_address(facts, rules)


def _of_address(facts: Facts, rules: HostRules) -> Step:
    where = f"{address_text(rules.ip, rules.port)}/{rules.protocol}"
    if rules.error:
        return unknown("rules", f"the rules of {facts.pod_node} for {where} are not known", rules.error)
    look = f"see the log of orca-agent on {facts.pod_node}"
    if rules.ip in facts.cluster_dns:
        return note("rules", f"{facts.pod_node} answers {where} itself", why="cluster DNS is on every host")
    wanted = {(t.ip, t.port) for t in usable_targets(facts) if (":" in t.ip) == (":" in rules.ip)}
    found = {(each.ip, each.port) for each in rules.endpoints}
    if not rules.present:
        if not wanted and not facts.targets:
            return ok("rules", f"{facts.pod_node} has no rules for {where}, as there is nothing to lead to")
        return broken(
            "rules",
            f"{facts.pod_node} has no rules for {where} ({rules.mode})",
            "the API has the Service and its endpoints, the kernel of the host has not",
            look,
        )
    if rules.refuses and not found:
        if not wanted:
            return note(
                "rules",
                f"{facts.pod_node} refuses connections to {where}",
                *rules.text,
                why="there is no endpoint that it may use",
            )
        return broken(
            "rules",
            f"{facts.pod_node} refuses connections to {where}",
            "there are endpoints, but its rules do not know them",
            look,
            *rules.text,
        )
    lines = tuple(_counted(str(e), e.packets, e.connections) for e in rules.endpoints[:SHOWN])
    missing, stale = wanted - found, found - wanted
    if stale and not _locality(facts, stale):
        gone = ", ".join(sorted(address_text(*each) for each in stale))
        return broken(
            "rules",
            f"{facts.pod_node} still sends connections to {gone}",
            "these are no endpoints any more, says the API",
            look,
            *lines,
        )
    if missing and not found:
        return broken(
            "rules",
            f"{facts.pod_node} leads {where} nowhere",
            f"there are {len(missing)} endpoints, but its rules do not know them",
            look,
            *lines,
        )
    count = "" if rules.packets is None else f", {rules.packets} connections begun"
    says = f"{facts.pod_node} leads {where} to {len(found)} endpoints ({rules.mode}{count})"
    if missing:
        return note("rules", says, *lines, why="topology hints or what has changed just now may leave some out")
    return ok("rules", says, *lines)


def _locality(facts: Facts, stale: set[tuple[str, int]]) -> bool:
    """Whether what the host uses is an endpoint all the same, if not one that we would have expected it to use."""
    return stale <= {(target.ip, target.port) for target in facts.targets if target.ready or target.serving}


def _counted(text: str, packets: int | None, connections: int | None) -> str:
    if connections is not None:
        return f"{text}: {connections} connections now"
    return text if packets is None else f"{text}: {packets} connections begun"


# --- why there is nothing --------------------------------------------------------------------------------------------


def _no_endpoints(facts: Facts, selector: dict[str, str]) -> Step:
    text = ",".join(f"{k}={v}" for k, v in sorted(selector.items()))
    if not selector:
        return broken(
            "endpoints",
            f"Service {facts.service_key} has no selector and no EndpointSlice with this port",
            "nobody has said where it leads",
            f"create an EndpointSlice with the label kubernetes.io/service-name={facts.name}",
        )
    if not facts.selected:
        return broken(
            "endpoints",
            f"no pod in {facts.namespace} has the labels {text}",
            "the Service's selector matches nothing",
            f"kubectl get pods -n {facts.namespace} --show-labels, then correct selector or labels",
        )
    target = (facts.port or {}).get("targetPort")
    if isinstance(target, str) and not any(_has_port(pod, target, facts.protocol) for pod in facts.selected):
        names = sorted({str(p["name"]) for pod in facts.selected for p in _ports(pod) if p.get("name")})
        return broken(
            "endpoints",
            f"no container of the selected pods has a port named {target} ({facts.protocol})",
            f"targetPort is that name; the names they have are: {', '.join(names) or 'none'}",
            f"name the container's port {target}, or set targetPort to its number",
        )
    waiting = [pod for pod in facts.selected if not (pod.get("status") or {}).get("podIP")]
    if len(waiting) == len(facts.selected):
        return broken(
            "endpoints",
            f"{len(waiting)} pods are selected, none has an address yet",
            "; ".join(_pod_why(pod) for pod in waiting[:3]),
            f"kubectl describe pod {name(waiting[0])}",
        )
    ended = [p for p in facts.selected if (p.get("status") or {}).get("phase") in ("Succeeded", "Failed")]
    if len(ended) == len(facts.selected):
        return broken(
            "endpoints",
            "all selected pods have ended",
            "pods that have ended are no endpoints",
            "see what makes them end: kubectl describe pod " + name(ended[0]),
        )
    return broken(
        "endpoints",
        f"{len(facts.selected)} pods are selected, but no EndpointSlice names them",
        "the EndpointSlice controller has not come to it",
        "see whether orca server runs",
    )


def _why_unready(facts: Facts) -> str:
    told = [_pod_why(target.pod) for target in facts.targets if target.pod is not None]
    return "; ".join(dict.fromkeys(told)) or "their slices say so"


def _fix_unready(facts: Facts) -> str:
    pod = next((target.pod for target in facts.targets if target.pod is not None), None)
    return (
        f"kubectl describe pod -n {facts.namespace} {name(pod)}"
        if pod
        else "correct conditions.ready in the EndpointSlice"
    )


def _pod_why(pod: Obj) -> str:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{key(pod)}: container {status['name']} waits: {waiting['reason']}"
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return f"{key(pod)}: is being deleted"
    return f"{key(pod)}: {ready_condition(pod)[1] or 'not ready'}"


def _state(target: Target) -> str:
    if target.ready:
        return "ready"
    if target.terminating:
        return "terminating, still serving" if target.serving else "terminating"
    return "not ready"


def _ports(pod: Obj) -> list[Obj]:
    spec = pod.get("spec") or {}
    groups = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    return [port for container in groups for port in container.get("ports") or ()]


def _has_port(pod: Obj, wanted: str, protocol: str) -> bool:
    return any(p.get("name") == wanted and (p.get("protocol") or "TCP") == protocol for p in _ports(pod))


def _port_text(port: Obj) -> str:
    named = f" ({port['name']})" if port.get("name") else ""
    return f"{port['port']}/{port.get('protocol') or 'TCP'}{named}"


def _node_is_ready(facts: Facts, node: str) -> bool:
    found = facts.nodes.get(node)
    return found is not None and ready_condition(found)[0]


def _node_why(facts: Facts, node: str) -> str:
    found = facts.nodes.get(node)
    return ready_condition(found)[1] if found is not None else "it is gone"
