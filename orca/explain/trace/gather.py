"""Asks the API and the agents for what `explain` needs. Changes nothing.

Agents are asked through the API server (``/api/v1/nodes/NODE/proxy/debug/trace/…``, rights on ``nodes/proxy``: get, and
create for what the pod's network is to do). What is not allowed, or not answered, is noted as a problem of that node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from orca.api.builtin import ENDPOINTSLICES, NODES, PODS, SERVICES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, key, name, namespace
from orca.api.resources import Resource
from orca.api.selectors import from_map
from orca.client.http import HttpsClient
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
    address_text,
)
from orca.explain.trace.names import candidates, is_address, service_of
from orca.explain.trace.serving import SHOWN, usable_targets

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MOST_ENDPOINTS = SHOWN


class PodNotFound(Exception):
    """There is no such pod."""


class Gatherer:
    """`gather` once. ``probe``: whether TCP connections are tried from the pod's network."""

    def __init__(self, client: HttpsClient, *, probe: bool = True) -> None:
        self._client = client
        self._probe = probe
        self._problems: dict[str, str] = {}

    async def gather(self, pod_namespace: str, pod_name: str, wish: Wish) -> Facts:
        """Raises PodNotFound, and ApiError when the API itself does not answer or does not allow it."""
        pod = await self._get(PODS, pod_name, pod_namespace)
        if pod is None:
            raise PodNotFound(f'pods "{pod_name}" not found in namespace {pod_namespace}')
        facts = Facts(wish=wish, pod=pod, node=None)
        if facts.pod_node:
            facts = replace(facts, node=await self._get(NODES, facts.pod_node))
        facts = await self._with_settings(facts)
        facts = await self._with_service(facts)
        facts = await self._with_endpoints(facts)
        if facts.pod_ips:
            facts = await self._with_names(facts)
            facts = await self._with_hosts(facts)
        return replace(facts, problems=dict(self._problems))

    # --- from the API ------------------------------------------------------------------------------------------------

    async def _with_settings(self, facts: Facts) -> Facts:
        answer = await self._agent(facts.pod_node, "/configz")
        settings = (answer or {}).get("kubeletconfig") or {}
        return replace(
            facts,
            domain=str(settings.get("clusterDomain") or facts.domain).strip("."),
            cluster_dns=tuple(settings.get("clusterDNS") or ()),
        )

    async def _with_service(self, facts: Facts) -> Facts:
        wish = facts.wish
        if is_address(wish.host):
            return await self._by_address(facts)
        space, called = service_of(wish.host, namespace(facts.pod), facts.domain)
        service = await self._get(SERVICES, called, space) if called else None
        elsewhere: tuple[str, ...] = ()
        if service is None:
            bare = called or wish.host.split(".")[0]
            elsewhere = tuple(
                sorted(namespace(each) for each in await self._all(SERVICES, fields=f"metadata.name={bare}"))
            )
        facts = replace(facts, namespace=space, name=called, service=service, elsewhere=elsewhere)
        return replace(facts, port=_port_of(facts))

    async def _by_address(self, facts: Facts) -> Facts:
        for service in await self._all(SERVICES):
            spec = service.get("spec") or {}
            if facts.wish.host in (spec.get("clusterIPs") or (spec.get("clusterIP"),)):
                facts = replace(facts, namespace=namespace(service), name=name(service), service=service)
                return replace(facts, port=_port_of(facts))
        return facts

    async def _with_endpoints(self, facts: Facts) -> Facts:
        if facts.service is None or facts.kind == "ExternalName":
            return facts
        selector = (facts.service.get("spec") or {}).get("selector") or {}
        slices, pods, nodes = await asyncio.gather(
            self._all(ENDPOINTSLICES, facts.namespace, labels=f"{SERVICE_NAME_LABEL}={facts.name}"),
            self._all(PODS, facts.namespace, labels=str(from_map(selector))) if selector else _nothing(),
            self._all(NODES),
        )
        by_key = {key(pod): pod for pod in pods}
        facts = replace(facts, slices=tuple(slices), selected=tuple(pods), nodes={name(node): node for node in nodes})
        return replace(facts, targets=tuple(_targets(facts, by_key)))

    # --- from the hosts ----------------------------------------------------------------------------------------------

    async def _with_names(self, facts: Facts) -> Facts:
        where = f"{quote(namespace(facts.pod))}/{quote(name(facts.pod))}"
        seen = await self._agent(facts.pod_node, f"/debug/trace/pod/{where}")
        told = (seen or {}).get("resolver")
        if not told:
            return facts
        resolver = Resolver(tuple(told["nameservers"]), tuple(told["searches"]), tuple(told["options"]))
        facts = replace(facts, resolver=resolver)
        if is_address(facts.wish.host) or not resolver.nameservers:
            return facts
        kinds = sorted({"AAAA" if ":" in ip else "A" for ip in facts.pod_ips} | {"A", "AAAA"})
        questions = [{"name": each, "type": kind} for each in candidates(facts.wish.host, resolver) for kind in kinds]
        body = {"nameserver": resolver.nameservers[0], "questions": questions}
        answer = await self._agent(facts.pod_node, f"/debug/trace/resolve/{where}", body=body)
        found = [_lookup(each) for each in (answer or {}).get("answers") or ()]
        return replace(facts, lookups=_until_found(found))

    async def _with_hosts(self, facts: Facts) -> Facts:
        """Everything that can be asked at once."""
        usable = list(usable_targets(facts)[:MOST_ENDPOINTS])
        rules, connections, examined = await asyncio.gather(
            self._rules(facts),
            self._connections(facts, usable),
            asyncio.gather(*(self._examine(facts, t) for t in usable)),
        )
        known = {(target.ip, target.port): target for target in examined}
        targets = tuple(
            replace(known.get((t.ip, t.port), t), connection=connections.get(address_text(t.ip, t.port), ""))
            for t in facts.targets
        )
        addresses = set()
        if facts.port is not None:
            addresses = {address_text(ip, int(facts.port["port"])) for ip in facts.cluster_ips}
        to_service = {where: result for where, result in connections.items() if where in addresses}
        return replace(facts, rules=rules, targets=targets, connections=to_service)

    async def _rules(self, facts: Facts) -> tuple[HostRules, ...]:
        if facts.port is None:
            return ()
        found = []
        for ip in facts.cluster_ips:
            port, protocol = int(facts.port["port"]), facts.protocol
            query = urlencode({"ip": ip, "port": port, "protocol": protocol})
            try:
                told = await self._ask(facts.pod_node, f"/debug/trace/service?{query}")
            except ApiError as error:
                found.append(HostRules(ip, port, protocol, error=error.message))
                continue
            endpoints = tuple(
                RuleEndpoint(each["ip"], int(each["port"]), each.get("packets"), each.get("connections"))
                for each in told.get("endpoints") or ()
            )
            found.append(
                HostRules(
                    ip,
                    port,
                    protocol,
                    mode=str(told.get("mode") or ""),
                    present=bool(told.get("present")),
                    packets=told.get("packets"),
                    refuses=bool(told.get("refuses")),
                    endpoints=endpoints,
                    text=tuple(told.get("text") or ()),
                )
            )
        return tuple(found)

    async def _connections(self, facts: Facts, targets: Iterable[Target]) -> Mapping[str, str]:
        if not self._probe or facts.protocol != "TCP" or facts.service is None:
            return {}
        families = {":" in ip for ip in facts.pod_ips}
        to = [(target.ip, target.port) for target in targets]
        if facts.port is not None:
            to += [(ip, int(facts.port["port"])) for ip in facts.cluster_ips]
        wanted = [{"ip": ip, "port": port} for ip, port in to if (":" in ip) in families]
        if not wanted:
            return {}
        where = f"{quote(namespace(facts.pod))}/{quote(name(facts.pod))}"
        answer = await self._agent(facts.pod_node, f"/debug/trace/connect/{where}", body={"to": wanted})
        told = (answer or {}).get("connections") or ()
        return {address_text(each["ip"], int(each["port"])): str(each["result"]) for each in told}

    async def _examine(self, facts: Facts, target: Target) -> Target:
        """What policies, the endpoint's pod and its host say."""
        source_ip = next((ip for ip in facts.pod_ips if (":" in ip) == (":" in target.ip)), "")
        if source_ip:
            body = {
                "source": None if facts.host_network else facts.pod,
                "target": target.pod,
                "sourceIP": source_ip,
                "targetIP": target.ip,
                "protocol": facts.protocol,
                "port": target.port,
                "sameNode": bool(target.node) and target.node == facts.pod_node,
            }
            told = await self._agent(facts.pod_node, "/debug/trace/policy", body=body)
            if told is not None:
                target = replace(target, judgements=tuple(_judgement(each) for each in told["verdicts"]))
        if target.node and target.node in facts.nodes:
            if target.pod is not None:
                space, _, called = target.pod_key.partition("/")
                seen = await self._agent(target.node, f"/debug/trace/pod/{quote(space)}/{quote(called)}")
                if seen and seen.get("listeners") is not None:
                    target = replace(target, listeners=tuple(_listener(each) for each in seen["listeners"]))
            if source_ip and target.node != facts.pod_node:
                answer = await self._agent(target.node, f"/debug/trace/route?{urlencode({'to': source_ip})}")
                if answer is not None:
                    route = answer.get("route")
                    made = Route(route["destination"], route["device"], route.get("gateway") or "") if route else None
                    target = replace(target, route_back=made, route_known=True)
        return target

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _get(self, resource: Resource, called: str, space: str = "") -> Obj | None:
        try:
            return await self._client.get(resource, called, space)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    async def _all(self, resource: Resource, space: str = "", *, labels: str = "", fields: str = "") -> list[Obj]:
        """All that may be seen; none when that is nothing."""
        try:
            return (await self._client.list(resource, space, labels=labels, fields=fields)).items
        except ApiError as error:
            if error.code == 403:
                return []
            raise

    async def _agent(self, node: str, path: str, *, body: Obj | None = None) -> Obj | None:
        """What an agent answers; None with the reason in the problems."""
        if not node:
            return None
        try:
            return await self._ask(node, path, body=body)
        except ApiError as error:
            self._problems.setdefault(node, error.message)
            return None

    async def _ask(self, node: str, path: str, *, body: Obj | None = None) -> Obj:
        """Raises ApiError."""
        path = f"/api/v1/nodes/{quote(node)}/proxy{path}"
        data = orjson.dumps(body) if body is not None else None
        response = await self._client.open("GET" if body is None else "POST", path, data=data)
        async with response:
            try:
                answer: Any = orjson.loads(await response.read())
            except orjson.JSONDecodeError as error:
                raise ApiError(502, "BadGateway", f"the agent of {node} does not answer with JSON") from error
        if not isinstance(answer, dict):
            raise ApiError(502, "BadGateway", f"the agent of {node} does not answer with an object")
        return answer


async def _nothing() -> list[Obj]:
    return []


def _port_of(facts: Facts) -> Obj | None:
    """The entry of the Service's ports that is meant: by number or name, or the only one."""
    if facts.service is None:
        return None
    wish = facts.wish
    ports = [
        port
        for port in (facts.service.get("spec") or {}).get("ports") or ()
        if not wish.protocol or (port.get("protocol") or "TCP") == wish.protocol
    ]
    if not wish.port:
        return ports[0] if len(ports) == 1 else None
    found = [port for port in ports if wish.port in (str(port["port"]), port.get("name"))]
    return min(found, key=lambda port: port.get("protocol") or "TCP") if found else None


def _targets(facts: Facts, pods: Mapping[str, Obj]) -> Iterable[Target]:
    """Endpoints of the port that is meant, each address once; of a headless Service with the port that was typed."""
    seen: set[tuple[str, int]] = set()
    typed = int(facts.wish.port) if facts.kind == "Headless" and facts.wish.port.isdigit() else 0
    for each in facts.slices:
        numbers = {
            int(port["port"])
            for port in each.get("ports") or ()
            if port.get("port")
            and (port.get("protocol") or "TCP") == facts.protocol
            and (facts.port is None or (port.get("name") or "") == (facts.port.get("name") or ""))
        }
        for number in {typed} if typed else numbers:
            for endpoint in each.get("endpoints") or ():
                conditions = endpoint.get("conditions") or {}
                reference = endpoint.get("targetRef") or {}
                named = reference.get("kind") == "Pod"
                pod_key = f"{reference.get('namespace') or facts.namespace}/{reference.get('name')}" if named else ""
                for ip in endpoint.get("addresses") or ():
                    if (ip, number) in seen:
                        continue
                    seen.add((ip, number))
                    ready = conditions.get("ready") is not False
                    yield Target(
                        ip=str(ip),
                        port=number,
                        ready=ready,
                        serving=conditions.get("serving", ready) is not False,
                        terminating=conditions.get("terminating") is True,
                        node=str(endpoint.get("nodeName") or ""),
                        pod=pods.get(pod_key),
                        pod_key=pod_key,
                    )


def _until_found(lookups: list[Lookup]) -> tuple[Lookup, ...]:
    """As a resolver does: names that come after one with an address are not asked."""
    found = next((lookup.name for lookup in lookups if lookup.addresses), None)
    if found is None:
        return tuple(lookups)
    names = list(dict.fromkeys(lookup.name for lookup in lookups))
    asked = set(names[: names.index(found) + 1])
    return tuple(lookup for lookup in lookups if lookup.name in asked)


def _lookup(told: Obj) -> Lookup:
    records = tuple((str(each["type"]), str(each["data"])) for each in told.get("records") or ())
    text = {field: str(told.get(field) or "") for field in ("name", "type", "nameserver", "rcode", "error")}
    return Lookup(records=records, **text)


def _judgement(told: Obj) -> Judgement:
    isolating = tuple(told.get("isolating") or ())
    return Judgement(str(told["direction"]), bool(told["allowed"]), str(told.get("reason") or ""), isolating)


def _listener(told: Obj) -> Listener:
    return Listener(str(told["protocol"]), int(told["port"]), str(told.get("address") or ""), int(told["family"]))
