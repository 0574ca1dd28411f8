"""Requests that end on a host: logs, exec, attach, port-forward and the proxies to pods, services and nodes.

The server finds the host, connects to its agent with the API server's client certificate and hands bytes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import web

from orca.admission import Attributes, Chain
from orca.api.builtin import NODES, PODS, SERVICES
from orca.api.errors import ApiError, bad_request, no_such_page
from orca.api.objects import Obj, meta, name
from orca.api.resources import Resource
from orca.server.connection import connection_of
from orca.server.hosts import Destination, Hosts
from orca.server.options import flag, number
from orca.server.request import Request
from orca.server.tunnel import Endpoint, dial_failed, splice

CONNECT_SUBRESOURCES = frozenset({"log", "exec", "attach", "portforward", "proxy"})
CONNECT_SECONDS = 10.0
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
# Hop-by-hop headers and our own credentials never leave the server.
_NOT_FORWARDED = frozenset(
    {
        "host",
        "authorization",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "impersonate-user",
        "impersonate-group",
        "impersonate-uid",
    }
)
_NOT_RETURNED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "upgrade"}
)
_LOG_PARAMETERS = ("follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")


class Splicer:
    """One per server; ``close`` frees pooled connections."""

    def __init__(self, hosts: Hosts, admission: Chain) -> None:
        self._hosts = hosts
        self._admission = admission
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

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
        return await self._upgrade(request, endpoint, path)

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

    async def _upgrade(self, request: Request, endpoint: Endpoint, path: str) -> web.StreamResponse:
        headers = request.http.headers
        if "upgrade" not in headers.get("Connection", "").lower() or not headers.get("Upgrade"):
            raise bad_request("Upgrade request required")
        kept = [(key, value) for key, value in headers.items() if key.lower() not in _NOT_FORWARDED]
        kept += [("Connection", "Upgrade"), ("Upgrade", headers["Upgrade"])]
        if request.method == "POST":
            kept.append(("Content-Length", "0"))
        return await splice(connection_of(request.http), endpoint, request.method, path, kept)

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
        return await self._forward(request, Destination(endpoint, "https"), path, flush=flag(request.query, "follow"))

    # -- proxies

    async def _proxy(self, request: Request, resource: Resource) -> web.StreamResponse:
        target = request.target
        await self._admit(request, resource)
        if resource == NODES:
            destination = Destination(self._hosts.agent(target.name.split(":")[0]), "https")
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
            return await self._upgrade(request, destination.endpoint, path)
        return await self._forward(request, destination, path, flush=True)

    async def _forward(
        self, request: Request, destination: Destination, path: str, *, flush: bool
    ) -> web.StreamResponse:
        """Pass a plain request on and stream the answer back."""
        endpoint = destination.endpoint
        headers = [(k, v) for k, v in request.http.headers.items() if k.lower() not in _NOT_FORWARDED]
        body = request.http.content if request.http.can_read_body else None
        connection = connection_of(request.http)
        task = asyncio.current_task()
        assert task is not None
        connection.watch_loss(task, task.cancel)
        response: web.StreamResponse | None = None
        try:
            async with self._client().request(
                request.method,
                f"{destination.scheme}://{endpoint.authority}{path}",
                headers=headers,
                data=body,
                ssl=endpoint.tls if endpoint.tls is not None else True,
                server_hostname=endpoint.server_name or None,
                allow_redirects=False,
                auto_decompress=False,
            ) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for key, value in answer.headers.items():
                    if key.lower() not in _NOT_RETURNED or key.lower() == "content-encoding":
                        response.headers.add(key, value)
                if answer.content_length is not None and request.method != "HEAD":
                    response.content_length = answer.content_length
                await response.prepare(request.http)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if response is not None and response.prepared:
                connection.force_close()  # the answer is cut; the client must notice
                return response
            raise dial_failed(endpoint, error) from error
        except asyncio.CancelledError:
            if response is not None and (connection.transport is None or connection.transport.is_closing()):
                return response
            raise
        finally:
            connection.forget_loss(task)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            )
        return self._session


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


def _all(query: Mapping[str, str], key: str) -> list[str]:
    found: list[str] = query.getall(key, []) if hasattr(query, "getall") else []
    return [part for value in found for part in value.split(",") if part]


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
        ports = [int(port) if port.isdecimal() else port for port in _all(query, "ports")]
        return {**made, "ports": ports} if ports else made
    for stream in ("stdin", "stdout", "stderr", "tty"):
        if flag(query, stream):
            made[stream] = True
    if query.get("container"):
        made["container"] = query["container"]
    if subresource == "exec":
        made["command"] = query.getall("command", []) if hasattr(query, "getall") else []
    return made


def _stream_query(options: Obj) -> Iterator[tuple[str, str]]:
    """Pod exec and attach options in the agent's (kubelet's) words."""
    for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
        if options.get(ours):
            yield theirs, "1"
    for word in options.get("command") or ():
        yield "command", word
