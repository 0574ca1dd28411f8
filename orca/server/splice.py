"""Requests that end on a host: logs, exec, attach, port-forward and the proxies to pods, services and nodes.

The server finds the host, connects to its agent with the API server's client certificate and hands bytes through.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlencode

from aiohttp import web

from orca.admission import Attributes, Chain
from orca.api.builtin import NODES, PODS, SERVICES
from orca.api.errors import ApiError, bad_request, no_such_page, service_unavailable
from orca.api.objects import Obj, meta, name
from orca.api.resources import Resource
from orca.server.forwarding import Forwarder
from orca.server.hosts import Destination, Hosts
from orca.server.links import Links
from orca.server.options import every, flag, number
from orca.server.request import Request
from orca.server.tunnel import Endpoint
from orca.server.websockets import is_websocket

CONNECT_SUBRESOURCES = frozenset({"log", "exec", "attach", "portforward", "proxy"})
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_LOG_PARAMETERS = ("follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")


class Splicer:
    """One per server; ``close`` frees pooled connections."""

    def __init__(self, hosts: Hosts, admission: Chain) -> None:
        self._hosts = hosts
        self._admission = admission
        self._forwarder = Forwarder()

    async def close(self) -> None:
        """Close the connection pool."""
        await self._forwarder.close()

    async def connect(self, request: Request) -> web.StreamResponse:
        """Serve a connecting subresource. Raises ApiError."""
        target = request.target
        resource = target.resource
        assert resource is not None
        if not resource.has(target.subresource) or not target.name:
            raise no_such_page()
        if target.subresource == "proxy":
            return await self._proxy(request, resource)
        if resource != PODS:
            raise no_such_page()
        if target.subresource == "log":
            return await self._log(request, await self._hosts.pod(target.namespace, target.name))
        options = await self._admit(request, resource)
        pod = await self._hosts.pod(target.namespace, target.name)
        if request.method not in ("GET", "POST"):
            raise ApiError(405, "MethodNotAllowed", "exec, attach and portforward take GET or POST")
        endpoint = self._hosts.agent_of(pod)
        if target.subresource == "portforward":
            path = self._path("portForward", request)
            query = urlencode([("port", port) for port in options.get("ports") or ()])
        else:
            path = self._path(target.subresource, request, pod_container(pod, options.get("container") or ""))
            query = urlencode(list(_stream_query(options)))
        if query:
            path = f"{path}?{query}"
        return await self._forwarder.upgrade(request, endpoint, path)

    async def _admit(self, request: Request, resource: Resource) -> Obj:
        """The options of the request (PodExecOptions …) as admission leaves them. Raises ApiError."""
        target = request.target
        attributes = Attributes(
            operation="CONNECT",
            resource=resource,
            subresource=target.subresource,
            namespace=target.namespace,
            name=target.name,
            obj=connect_options(resource, request),
            old=None,
            user=request.user,
        )
        await self._admission.admit(attributes)
        await self._admission.validate(attributes)
        return attributes.obj or {}

    @staticmethod
    def _path(kind: str, request: Request, container: str = "") -> str:
        parts = [kind, request.target.namespace, request.target.name, *([container] if container else [])]
        return "/" + "/".join(quote(part, safe="") for part in parts)

    # -- logs

    async def _log(self, request: Request, pod: Obj) -> web.StreamResponse:
        if request.method != "GET":
            raise ApiError(405, "MethodNotAllowed", "logs are read with GET")
        for parameter in ("sinceSeconds", "tailLines", "limitBytes"):
            value = number(request.query, parameter)
            if value is not None and value < (1 if parameter != "tailLines" else 0):
                raise ApiError(
                    422,
                    "Invalid",
                    f'PodLogOptions "{name(pod)}" is invalid: {parameter}: Invalid value: {value}: '
                    "must be greater than or equal to " + ("0" if parameter == "tailLines" else "1"),
                )
        container = pod_container(pod, request.query.get("container", ""))
        if not (pod.get("spec") or {}).get("nodeName"):
            return web.Response(text="")
        endpoint = self._hosts.agent_of(pod)
        query = urlencode([(key, request.query[key]) for key in _LOG_PARAMETERS if key in request.query])
        path = self._path("containerLogs", request, container) + (f"?{query}" if query else "")
        framed = is_websocket(request.http.headers)
        return await self._forwarder.forward(request, Destination(endpoint, "https"), path, framed=framed)

    # -- proxies

    async def _proxy(self, request: Request, resource: Resource) -> web.StreamResponse:
        target = request.target
        await self._admit(request, resource)
        if not target.tail and request.method in ("GET", "HEAD"):
            # Relative links of the page behind need the slash.
            where = f"{target.path}/" + (f"?{request.query_text}" if request.query_text else "")
            return web.Response(status=301, headers={"Location": where})
        if resource == NODES:
            destination = await self._hosts.node_destination(target.name)
        elif resource == PODS:
            destination = await self._hosts.pod_destination(target.namespace, target.name)
        elif resource == SERVICES:
            destination = await self._hosts.service_destination(target.namespace, target.name)
        else:
            raise no_such_page()
        path = quote(target.tail or "/", safe="/%:@!$&'()*+,;=~-._")
        if request.query_text:
            path = f"{path}?{request.query_text}"
        if request.http.headers.get("Upgrade"):
            return await self._forwarder.upgrade(request, destination.endpoint, path)
        return await self._page(request, destination, path)

    async def _page(self, request: Request, destination: Destination, path: str) -> web.StreamResponse:
        """What is behind is told how it is reached, and its links are made to lead there."""
        target, theirs = request.target, request.http.headers
        # /api/v1/namespaces/<namespace>/<pods or services>/<name>/proxy, /api/v1/nodes/<name>/proxy
        prefix = "/".join(target.path.split("/")[: 8 if target.within else 6])
        host = theirs.get("Host", "")
        headers = [("X-Forwarded-Uri", prefix + path.partition("?")[0])]
        if host:
            headers.append(("Host", host))
        if peer := request.http.remote:
            before = theirs.get("X-Forwarded-For")
            headers.append(("X-Forwarded-For", f"{before}, {peer}" if before else peer))
        links = Links(prefix, destination.endpoint.authority, host)
        return await self._forwarder.forward(request, destination, path, headers, failed=unreachable, links=links)


def unreachable(endpoint: Endpoint, error: BaseException) -> ApiError:
    """What a client is told when nobody answers behind a proxy."""
    why = str(error) or type(error).__name__
    return service_unavailable(f"error trying to reach service: dial tcp {endpoint.authority}: {why}")


def pod_container(pod: Obj, wanted: str) -> str:
    """The container meant by a request. Raises ApiError 400 when that is not clear."""
    spec = pod.get("spec") or {}
    regular = [one["name"] for one in spec.get("containers") or ()]
    init = [one["name"] for one in spec.get("initContainers") or ()]
    ephemeral = [one["name"] for one in spec.get("ephemeralContainers") or ()]
    if wanted:
        if wanted in (*regular, *init, *ephemeral):
            return wanted
        raise bad_request(f"container {wanted} is not valid for pod {name(pod)}")
    if len(regular) == 1 and not init and not ephemeral:
        return str(regular[0])
    preferred = (meta(pod).get("annotations") or {}).get(_DEFAULT_CONTAINER)
    if preferred in regular:
        return str(preferred)
    if len(regular) == 1:
        return str(regular[0])
    text = f"a container name must be specified for pod {name(pod)}, choose one of: [{' '.join(regular)}]"
    if init:
        text += f" or one of the init containers: [{' '.join(init)}]"
    raise bad_request(text)


def connect_options(resource: Resource, request: Request) -> Obj:
    """What a connecting request asks for, as an object of its kind: PodExecOptions, ServiceProxyOptions …"""
    query, subresource = request.query, request.target.subresource
    if subresource == "proxy":
        made: Obj = {"kind": f"{resource.kind}ProxyOptions", "apiVersion": "v1"}
        if request.target.tail:
            made["path"] = request.target.tail.lstrip("/")
        return made
    kinds = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
    made = {"kind": kinds[subresource], "apiVersion": "v1"}
    if subresource == "portforward":
        named = [port for value in every(query, "ports") for port in value.split(",") if port]
        ports = [int(port) if port.isdecimal() and len(port) < 10 else port for port in named]
        return {**made, "ports": ports} if ports else made
    for stream in ("stdin", "stdout", "stderr", "tty"):
        if flag(query, stream):
            made[stream] = True
    if query.get("container"):
        made["container"] = query["container"]
    if subresource == "exec":
        made["command"] = every(query, "command")
    return made


def _stream_query(options: Obj) -> Iterator[tuple[str, str]]:
    """Pod exec and attach options in the agent's (kubelet's) words."""
    for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
        if options.get(ours):
            yield theirs, "1"
    for word in options.get("command") or ():
        yield "command", word
