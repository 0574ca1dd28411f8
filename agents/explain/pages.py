"""The agent's part of `orca trace`: paths below ``/debug/trace``, answered with JSON.

    GET  /debug/trace/pod/{namespace}/{pod}       resolv.conf, listeners, addresses
    GET  /debug/trace/service?ip=&port=&protocol= what this host's kernel has for it
    GET  /debug/trace/route?to=                   this host's route to an address
    POST /debug/trace/resolve/{namespace}/{pod}   {"nameserver", "questions": [{"name", "type"}]}
    POST /debug/trace/connect/{namespace}/{pod}   {"to": [{"ip", "port"}]}
    POST /debug/trace/policy                      {"source", "target", "sourceIP", "targetIP", "protocol", "port",
                                                   "sameNode"}

Those that make the pod's network do something are POSTs, so that reading rights (``get nodes/proxy``) are not enough.
They are gone with ``enableDebuggingHandlers: false``.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, cast

import orjson
from aiohttp import web

from agents.explain import chains, tables, virtual
from agents.pods.files import parse_resolver
from agents.pods.paths import PodFiles
from agents.pods.ports import PodView
from agents.policy.model import Policy, pod_of
from agents.policy.verdict import Party, judge
from agents.proxy import conntrack
from agents.proxy.model import PROTOCOLS
from agents.proxy.seen import RulesSeen
from agents.server.targets import failure
from orca.api.objects import Obj, labels, name, uid
from orca.client.informer import Informer

SEEN_SECONDS = 30.0
MOST = 32
"""Questions or connections of one request."""


class Pods(Protocol):
    """``agents.running.RunningPods``."""

    def find(self, namespace: str, name: str) -> PodView | None: ...


class ProxyView(Protocol):
    """``agents.proxy.Proxy``."""

    @property
    def backend(self) -> Any: ...


class TracePages:
    """`routes` are for the agent's server."""

    def __init__(
        self,
        pods: Pods,
        *,
        root: Path,
        proxy: ProxyView,
        policies: Callable[[], Collection[Policy]] = tuple,
        namespaces: Informer | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        """``root`` is the agent's; ``policies``: all NetworkPolicies."""
        self._pods = pods
        self._root = root
        self._proxy = proxy
        self._policies = policies
        self._namespaces = namespaces
        self._proc = proc

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/debug/trace/pod/{namespace}/{pod}", self.pod),
            web.get("/debug/trace/service", self.service),
            web.get("/debug/trace/route", self.route),
            web.post("/debug/trace/resolve/{namespace}/{pod}", self.resolve),
            web.post("/debug/trace/connect/{namespace}/{pod}", self.connect),
            web.post("/debug/trace/policy", self.policy),
        ]

    async def pod(self, request: web.Request) -> web.Response:
        from agents.explain.sockets import listeners

        view = self._find(request)

        def look() -> dict[str, Any]:
            answer: dict[str, Any] = {
                "uid": uid(view.pod),
                "addresses": list(view.ips),
                "running": bool(view.pause_pid),
            }
            try:
                resolver = parse_resolver(PodFiles(self._root / "pods" / uid(view.pod)).resolver.read_text())
                answer["resolver"] = asdict(resolver)
            except OSError:
                answer["resolver"] = None
            try:
                found = listeners(self._proc / str(view.pause_pid) / "net") if view.pause_pid else ()
                answer["listeners"] = [asdict(each) for each in found]
            except OSError:
                answer["listeners"] = None
            return answer

        return _json(await asyncio.to_thread(look))

    async def service(self, request: web.Request) -> web.Response:
        ip, port = _address(request.query.get("ip", "")), _number(request.query.get("port", ""))
        protocol = request.query.get("protocol", "TCP").upper()
        if protocol not in PROTOCOLS:
            # It becomes part of a command for nft, which would take what follows a semicolon for the next one.
            raise failure(400, f"protocols are {', '.join(PROTOCOLS)}")
        backend = self._proxy.backend
        mode = str(getattr(backend, "name", ""))
        try:
            async with asyncio.timeout(SEEN_SECONDS):
                seen = await self._seen(backend, mode, ip, port, protocol)
        except (OSError, TimeoutError) as error:
            raise failure(500, f"the rules of this host cannot be read: {error or 'no answer'}") from error
        if seen is None:
            raise failure(500, f"rules of the mode {mode or 'that is chosen'} cannot be read here")
        return _json(asdict(seen))

    async def _seen(self, backend: Any, mode: str, ip: str, port: int, protocol: str) -> RulesSeen | None:
        if hasattr(backend, "seen"):
            return cast("RulesSeen | None", await backend.seen(ip, port, protocol))
        if mode == "nftables":
            found = await tables.seen(_nft, ip, port, protocol)
            return await asyncio.to_thread(_with_connections, found, ip, port)
        if mode == "iptables":
            tool = "ip6tables-save" if ":" in ip else "iptables-save"
            nat, filters = [await _output(tool, "-c", "-t", table) for table in ("nat", "filter")]
            return await asyncio.to_thread(chains.seen, nat, filters, ip, port, protocol)
        if mode == "ipvs":
            table = await asyncio.to_thread((self._proc / "net" / "ip_vs").read_text)
            return virtual.seen(table, ip, port, protocol)
        return None

    async def route(self, request: web.Request) -> web.Response:
        from agents.explain.sockets import route

        to = _address(request.query.get("to", ""))
        try:
            found = await asyncio.to_thread(route, self._proc / "self" / "net", to)
        except OSError as error:
            raise failure(500, f"routes cannot be read: {error.strerror}") from error
        return _json({"to": to, "route": asdict(found) if found else None})

    async def resolve(self, request: web.Request) -> web.Response:
        from agents.explain.asking import KINDS, resolve

        pid, body = self._pid(request), await _body(request)
        questions = [(str(q.get("name")), str(q.get("type") or "A")) for q in _list(body, "questions")]
        if any(kind not in KINDS for _, kind in questions):
            raise failure(400, f"types are {', '.join(KINDS)}")
        nameserver = _address(str(body.get("nameserver")))
        found = await asyncio.gather(*(resolve(pid, nameserver, name, kind) for name, kind in questions))
        return _json({"answers": found})

    async def connect(self, request: web.Request) -> web.Response:
        from agents.explain.asking import connect

        pid, body = self._pid(request), await _body(request)
        to = [(_address(str(each.get("ip"))), _number(str(each.get("port")))) for each in _list(body, "to")]
        found = await asyncio.gather(*(connect(pid, ip, port) for ip, port in to))
        return _json({"connections": found})

    async def policy(self, request: web.Request) -> web.Response:
        body = await _body(request)
        source, target = (self._party(body, which) for which in ("source", "target"))
        spaces = self._namespaces.list() if self._namespaces is not None else []
        known: Mapping[str, Mapping[str, str]] = {name(space): labels(space) for space in spaces}
        protocol, port = str(body.get("protocol") or "TCP"), _number(str(body.get("port")))
        verdicts = judge(self._policies(), known, source, target, protocol, port)
        return _json({"verdicts": [asdict(verdict) for verdict in verdicts]})

    def _party(self, body: Obj, which: str) -> Party:
        pod, address = body.get(which), _address(str(body.get(f"{which}IP")))
        try:
            known = pod_of(pod, [address]) if pod else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise failure(400, f"{which} is no pod: {error!r}") from error
        # What has the host's network is the host to policies; a pod and its own host always reach each other.
        return Party(address, known, own_node=known is None and bool(body.get("sameNode")))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _find(self, request: web.Request) -> PodView:
        view = self._pods.find(request.match_info["namespace"], request.match_info["pod"])
        if view is None:
            raise failure(404, "pod does not exist")
        return view

    def _pid(self, request: web.Request) -> int:
        view = self._find(request)
        if not view.pause_pid:
            raise failure(500, f"pod {request.match_info['pod']} has no running sandbox")
        return view.pause_pid


async def _output(*argv: str) -> str:
    """Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise OSError(f"{argv[0]}: {err.decode(errors='replace').strip()}")
    return out.decode(errors="replace")


async def _nft(*argv: str) -> str:
    try:
        return await _output("nft", *argv)
    except FileNotFoundError as error:
        raise OSError("nft is not installed") from error
    except OSError as error:
        if "No such file" in str(error):
            return ""
        raise


def _with_connections(found: RulesSeen, ip: str, port: int) -> RulesSeen:
    """Its elements count nothing; the kernel's table of connections says how many there are now."""
    try:
        counts = conntrack.connections(ip, port)
    except OSError:
        return found
    endpoints = tuple(replace(each, connections=counts.get(each.ip, 0)) for each in found.endpoints)
    return replace(found, endpoints=endpoints)


async def _body(request: web.Request) -> Obj:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise failure(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise failure(400, "the body must be an object")
    return body


def _list(body: Obj, field: str) -> list[Obj]:
    values = body.get(field)
    if not isinstance(values, list) or len(values) > MOST or not all(isinstance(value, dict) for value in values):
        raise failure(400, f"{field} must be a list of at most {MOST} objects")
    return values


def _address(text: str) -> str:
    try:
        address = str(ipaddress.ip_address(text))
    except ValueError as error:
        raise failure(400, f"{text!r} is no address") from error
    if "%" in address:
        # A zone is any text, and this becomes part of a command for nft.
        raise failure(400, f"{text!r} names a zone")
    return address


def _number(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise failure(400, f"{text!r} is no port")
    return int(text)


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
