"""Where pods, nodes and services are reached from the API server."""

from __future__ import annotations

import ipaddress
import random
import ssl
from dataclasses import dataclass

from orca.api.builtin import ENDPOINTSLICES, NODES, PODS, SERVICES
from orca.api.errors import ApiError, bad_request, internal, not_found, service_unavailable
from orca.api.objects import Obj, labels, name, namespace
from orca.server.tunnel import Endpoint
from orca.store import Store

AGENT_PORT = 10250
_SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint and the scheme spoken there."""

    endpoint: Endpoint
    scheme: str


class Hosts:
    """Addresses from the store. ``agent_tls`` carries our client certificate and trusts the cluster's CA."""

    def __init__(self, store: Store, agent_tls: ssl.SSLContext) -> None:
        self._store = store
        self._agent_tls = agent_tls
        # Not the default context: that one reads the host's authorities, a megabyte of memory that nobody would ask.
        self._insecure = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._insecure.check_hostname = False
        self._insecure.verify_mode = ssl.CERT_NONE

    async def pod(self, space: str, pod_name: str) -> Obj:
        """Raises ApiError 404."""
        return (await self._store.get(PODS, space, pod_name)).obj

    def agent_of(self, pod: Obj) -> Endpoint:
        """The agent that runs the pod. Raises ApiError 400 when nobody does."""
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise bad_request(f"pod {name(pod)} does not have a host assigned")
        return self.agent(node)

    def agent(self, node_name: str) -> Endpoint:
        """Raises ApiError 404 for an unknown node, 500 for one without address."""
        node = self._store.peek(NODES, "", node_name)
        if node is None:
            raise not_found(NODES, node_name)
        status = node.get("status") or {}
        by_type = {one.get("type"): one.get("address") for one in reversed(status.get("addresses") or [])}
        address = by_type.get("InternalIP") or by_type.get("ExternalIP") or by_type.get("Hostname")
        if not address:
            raise internal(f"no preferred addresses found; known addresses: {status.get('addresses') or []}")
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or AGENT_PORT
        return Endpoint(address, port, self._agent_tls, node_name)

    # -- proxying

    async def pod_destination(self, space: str, text: str) -> Destination:
        """For ``[scheme:]name[:port]``. Raises ApiError 400, 404, 503."""
        scheme, pod_name, port = split_target(text)
        pod = await self.pod(space, pod_name)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise service_unavailable(f"address not allowed: pod {pod_name} has no address yet")
        number = _port_of_pod(pod, port)
        _check_address(address)
        return self._destination(scheme, address, number)

    async def service_destination(self, space: str, text: str) -> Destination:
        """A ready endpoint of ``[scheme:]name[:port]``. Raises ApiError 400, 404, 503."""
        scheme, service_name, wanted = split_target(text)
        service = (await self._store.get(SERVICES, space, service_name)).obj
        port_name = _service_port(service, wanted)
        ready: list[tuple[Obj, int]] = []
        for piece in self._store.peek_list(ENDPOINTSLICES, space):
            if labels(piece).get(_SERVICE_LABEL) != service_name:
                continue
            port = next((p for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None)
            if port is None or not port.get("port"):
                continue
            ready += (
                (endpoint, int(port["port"]))
                for endpoint in piece.get("endpoints") or ()
                if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses")
            )
        random.shuffle(ready)
        for endpoint, number in ready:
            if self._is_of_pod(endpoint, space):
                return self._destination(scheme, endpoint["addresses"][0], number)
        raise service_unavailable(f'no endpoints available for service "{text}"')

    def _is_of_pod(self, endpoint: Obj, space: str) -> bool:
        """Whether an endpoint is a pod of its own namespace at that pod's address: who may write endpoints may not lead
        the server anywhere else. Reference: k8s.io/kubernetes ``pkg/registry/core/service`` isValidAddress."""
        target = endpoint.get("targetRef") or {}
        if target.get("kind") != "Pod" or target.get("namespace") != space:
            return False
        pod = self._store.peek(PODS, space, target.get("name") or "")
        found = ((pod or {}).get("status") or {}).get("podIPs") or []
        address = endpoint["addresses"][0]
        if not any(one.get("ip") == address for one in found):
            return False
        try:
            _check_address(address)
        except ApiError:
            return False
        return True

    async def node_destination(self, text: str) -> Destination:
        """A node's agent for ``name`` and ``https:name:<its port>``, else what listens at that port of the node.

        Raises ApiError 400, 404, 500.
        """
        scheme, node_name, port = split_target(text)
        await self._store.fresh()
        agent = self.agent(node_name)
        if not port or port == str(agent.port):
            return Destination(agent, "https")
        number = port_number(port)
        _check_address(agent.host)
        return self._destination(scheme, agent.host, number)

    def _destination(self, scheme: str, address: str, port: int) -> Destination:
        return Destination(Endpoint(address, port, self._insecure if scheme == "https" else None), scheme)


def split_target(text: str) -> tuple[str, str, str]:
    """``[scheme:]name[:port]`` -> (scheme, name, port or ""). Raises ApiError 400."""
    parts = text.split(":")
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0] or "http", parts[1], parts[2]
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) == 1:
        return "http", parts[0], ""
    raise bad_request(f"invalid proxy target {text!r}")


def _port_of_pod(pod: Obj, port: str) -> int:
    ports = [one for container in pod["spec"].get("containers") or () for one in container.get("ports") or ()]
    if not port:
        return int(ports[0]["containerPort"]) if ports else 80
    for one in ports:
        if one.get("name") == port:
            return int(one["containerPort"])
    if port.isdecimal():
        return port_number(port)
    raise ApiError(400, "BadRequest", f"pod {namespace(pod)}/{name(pod)} has no port named {port!r}")


def port_number(text: str) -> int:
    """Raises ApiError 400."""
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 1 << 16:
        raise bad_request(f"invalid port {text!r}: must be between 1 and 65535")
    return int(text)


def _check_address(address: str) -> None:
    """Nobody may be led to what only this host, or this link, can reach: statuses are written by others than those who
    run it. Names are looked up by nobody here, so only addresses are allowed. Reference: k8s.io/kubernetes
    ``pkg/proxy/util`` IsProxyableIP. Raises ApiError 400."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise bad_request("address not allowed") from None
    mapped = getattr(found, "ipv4_mapped", None) or found
    if mapped.is_loopback or mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
        raise bad_request("address not allowed")


def _service_port(service: Obj, wanted: str) -> str:
    """The port's name ("" for the unnamed one)."""
    ports = (service.get("spec") or {}).get("ports") or []
    if not wanted and len(ports) == 1:
        return ports[0].get("name") or ""
    for port in ports:
        if wanted and wanted in (port.get("name"), str(port.get("port"))):
            return port.get("name") or ""
        if not wanted and not port.get("name"):
            return ""
    raise service_unavailable(f'no service port "{wanted}" found for service "{name(service)}"')
