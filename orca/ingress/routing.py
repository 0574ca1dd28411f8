"""From objects of the API to what nginx serves.

Who wins: a path belongs to the oldest Ingress that asks for it (then the first by namespace and name). In a host, Exact
paths come first, then expressions (the longest text first, as in ingress-nginx), then the longest prefix.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote_to_bytes

from orca.api import names
from orca.api.objects import Obj, annotations, key, meta, namespace
from orca.ingress.classes import Ours
from orca.ingress.endpoints import NoSuchPort, joined, peers, service_port
from orca.ingress.model import Certificate, External, Location, Match, Pool, Problem, Routing, Server, Users
from orca.ingress.quoting import Unquotable, quoted
from orca.ingress.settings import Judged, Settings, judge

REJECTED, CONFLICT, BACKEND, SECRET, ANNOTATION = (
    "Rejected",
    "Conflict",
    "BackendMissing",
    "SecretUnusable",
    "AnnotationIgnored",
)
_NAMED_GROUP = re.compile(r"\(\?(?:<(?![=!])|P|')")
"""Groups with names become variables of nginx, and could be those that decide where a request goes."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/%@:,;=&!' -]*")


@dataclass(frozen=True, slots=True)
class World:
    """What is read. Lookups answer None for what is not there; ``certificate`` and ``users`` answer words for a person
    when the Secret is of no use."""

    service: Callable[[str], Obj | None]
    slices: Callable[[str], Iterable[Obj]]
    certificate: Callable[[str], Certificate | str]
    users: Callable[[str, bool], Users | str]
    default: Certificate | None = None
    """For hosts without a certificate of their own."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Ingresses whose configuration nginx did not take, with its words."""


def route(ingresses: Iterable[Obj], ours: Ours, world: World) -> Routing:
    """The routing of all Ingresses that are ours."""
    mine = [one for one in ingresses if ours.serves(one) and not meta(one).get("deletionTimestamp")]
    mine.sort(key=lambda one: (meta(one).get("creationTimestamp") or "", key(one)))
    builder = _Builder(world)
    for ingress in mine:
        builder.take(ingress)
    return builder.finished(frozenset(map(key, mine)))


def renewed(pool: Pool, slices: Iterable[Obj]) -> Pool:
    """The pool with the peers of now."""
    return replace(pool, peers=peers(slices, pool.port))


@dataclass(slots=True)
class _Host:
    """A server being made; locations by what nginx tells them apart by."""

    name: str
    locations: dict[tuple[Match, str], Location] = field(default_factory=dict)
    certificate: str = ""
    tls: bool = False
    aliases: dict[str, str] = field(default_factory=dict)
    default: Location | None = None
    prefixes: list[tuple[str, Location]] = field(default_factory=list)


class _Builder:
    def __init__(self, world: World) -> None:
        self._world = world
        self._hosts: dict[str, _Host] = {"": _Host("")}
        self._pools: dict[str, Pool] = {}
        self._certificates: dict[str, Certificate] = {}
        self._users: dict[str, Users] = {}
        self._problems: dict[Problem, None] = {}

    # --- one Ingress -------------------------------------------------------------------------------------------------

    def take(self, ingress: Obj) -> None:
        who = key(ingress)
        judged = judge(annotations(ingress), namespace(ingress))
        for text in judged.problems:
            self._tell(who, ANNOTATION if not judged.settings.denied else REJECTED, text)
        refused = self._world.refused.get(who)
        if refused is not None:
            self._tell(who, REJECTED, f"nginx does not take its configuration: {refused}")
        if judged.canary or refused is not None:
            return
        settings = self._with_users(who, judged)
        spec = ingress.get("spec") or {}
        fallback = spec.get("defaultBackend")
        rules = spec.get("rules") or []
        touched: dict[str, _Host] = {}
        for rule in rules:
            host = self._host(who, rule.get("host") or "")
            if host is None:
                continue
            touched[host.name] = host
            for item in (rule.get("http") or {}).get("paths") or ():
                self._path(ingress, settings, host, item)
        if fallback is not None:
            for host in touched.values() if rules else (self._hosts[""],):
                if host.default is None:
                    host.default = self._location(ingress, settings, Match.START, "/", fallback)
                elif not rules:
                    self._tell(who, CONFLICT, f"the default backend is that of Ingress {host.default.ingress} already")
            if not rules:
                touched[""] = self._hosts[""]
        for host in touched.values():
            self._tls(ingress, host)
            for alias in settings.aliases if host.name else ():
                host.aliases.setdefault(alias, who)

    def _host(self, who: str, name: str) -> _Host | None:
        rule = names.wildcard_subdomain if "*" in name else names.dns1123_subdomain
        if name and rule(name):
            self._tell(who, REJECTED, f"host {name!r} is not a DNS name")
            return None
        return self._hosts.setdefault(name, _Host(name))

    def _with_users(self, who: str, judged: Judged) -> Settings:
        settings = judged.settings
        auth = settings.basic_auth
        if auth is None or settings.denied:
            return settings
        users = self._world.users(auth.secret, auth.by_user)
        if isinstance(users, str):
            self._tell(who, SECRET, f"{users}; until that is mended its paths answer 503", settling=True)
            return replace(settings, denied=users)
        self._users[auth.secret] = users
        return settings

    # --- paths -------------------------------------------------------------------------------------------------------

    def _path(self, ingress: Obj, settings: Settings, host: _Host, item: Obj) -> None:
        who, path, kind = key(ingress), item.get("path") or "/", item.get("pathType")
        try:
            quoted(path)
            decoded = _decoded(path)
        except (Unquotable, UnicodeDecodeError):
            self._tell(who, REJECTED, f"path {path!r} has characters that no request's path can have")
            return
        backend = item.get("backend") or {}
        if kind == "Exact":
            found = self._location(ingress, settings, Match.EXACT, decoded, backend, f"^{_escaped(decoded)}$")
            self._claim(host, found)
        elif settings.use_regex or settings.rewrite_target:
            if kind == "Prefix" and _PLAIN_PATH.fullmatch(path):
                start = decoded.rstrip("/")
                expression = f"^{_escaped(start)}(?=/|$)" if start else "^/"
                match = Match.REGEX
                rewrite = f"^{_escaped(start)}(?:/|$)" if start else "^/"
            elif _NAMED_GROUP.search(path):
                self._tell(who, REJECTED, f"path {path!r} has a group with a name; groups are referred to by number")
                return
            else:
                expression = rewrite = f"^{path}"
                match = Match.REGEX_ANY_CASE
            self._claim(host, self._location(ingress, settings, match, expression, backend, rewrite))
        elif kind == "Prefix":
            start = decoded.rstrip("/")
            below = self._location(ingress, settings, Match.START, start + "/", backend)
            if self._claim(host, below) and start:
                # What an Exact path of anybody takes is known when all have been seen.
                host.prefixes.append((start, below))
        else:
            self._claim(host, self._location(ingress, settings, Match.START, decoded, backend))

    def _claim(self, host: _Host, wanted: Location) -> bool:
        holder = host.locations.setdefault((wanted.match, wanted.path), wanted)
        if holder is wanted:
            return True
        if holder.ingress != wanted.ingress:
            shown = host.name or "*"
            text = f"host {shown!r} and path {wanted.path!r} are served by Ingress {holder.ingress} already"
            self._tell(wanted.ingress, CONFLICT, text)
        return False

    def _location(
        self, ingress: Obj, settings: Settings, match: Match, path: str, backend: Obj, rewrite: str = ""
    ) -> Location:
        found, service = self._backend(ingress, settings, backend)
        return Location(match, path, found, key(ingress), service, settings, rewrite=rewrite)

    # --- backends ----------------------------------------------------------------------------------------------------

    def _backend(self, ingress: Obj, settings: Settings, backend: Obj) -> tuple[str | External | None, str]:
        who, wanted = key(ingress), backend.get("service")
        if wanted is None:
            resource = backend.get("resource") or {}
            text = f"resource backends are not supported: {resource.get('kind')} {resource.get('name')!r}"
            self._tell(who, REJECTED, text)
            return None, ""
        service_name, port = str(wanted.get("name")), wanted.get("port") or {}
        service_key = f"{namespace(ingress)}/{service_name}"
        service = self._world.service(service_key)
        if service is None:
            self._tell(who, BACKEND, f"there is no Service {service_key!r}", settling=True)
            return None, service_name
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return self._external(who, service_key, spec, port), service_name
        shown = f"{service_key}:{port.get('name') or port.get('number')}"
        pool = shown + ("@ip" if settings.service_upstream else "")
        if pool not in self._pools:
            try:
                found = service_port(service, port)
            except NoSuchPort as missing:
                self._tell(who, BACKEND, f"Service {service_key!r} has no TCP port {missing}", settling=True)
                return None, service_name
            self._pools[pool] = self._pool(pool, service_key, spec, found, by_address=settings.service_upstream)
        return pool, service_name

    def _pool(self, name: str, service_key: str, spec: Obj, port: Obj, *, by_address: bool) -> Pool:
        address, port_name = spec.get("clusterIP"), port.get("name") or ""
        if by_address and address and address != "None":
            return Pool(name, (joined(address, port["port"]),))
        return Pool(name, peers(self._world.slices(service_key), port_name), service_key, port_name)

    def _external(self, who: str, service_key: str, spec: Obj, port: Obj) -> External | None:
        number, host = port.get("number"), str(spec.get("externalName") or "").rstrip(".")
        for declared in spec.get("ports") or ():
            if port.get("name") and declared.get("name") == port["name"]:
                number = declared["port"]
        if number is None or names.dns1123_subdomain(host):
            text = f"Service {service_key!r} is of type ExternalName and has no port {port.get('name')!r}"
            self._tell(who, BACKEND, text, settling=True)
            return None
        return External(host, int(number))

    # --- TLS ---------------------------------------------------------------------------------------------------------

    def _tls(self, ingress: Obj, host: _Host) -> None:
        """The host's certificate by this Ingress, when no older one said what it is."""
        entries = (ingress.get("spec") or {}).get("tls") or []
        if host.tls or not entries:
            return
        who = key(ingress)
        named = [one for one in entries if host.name in (one.get("hosts") or ("",))]
        if not named and host.name:
            # As ingress-nginx: hosts that are listed nowhere take a certificate that is good for them.
            for entry in entries:
                found = self._certificate(ingress, entry)
                if isinstance(found, Certificate) and found.covers(host.name):
                    named = [entry]
                    break
        if not named:
            return
        host.tls = True
        if not named[0].get("secretName"):
            return
        found = self._certificate(ingress, named[0])
        if isinstance(found, str):
            self._tell(who, SECRET, f"{found}; the default certificate is used", settling=True)
        elif host.name and not found.covers(host.name):
            shown = f"{namespace(ingress)}/{named[0]['secretName']}"
            text = f"the certificate of Secret {shown!r} is not for {host.name!r}; the default one is used"
            self._tell(who, SECRET, text)
        else:
            host.certificate = found.file
            self._certificates[found.file] = found

    def _certificate(self, ingress: Obj, entry: Obj) -> Certificate | str:
        if not entry.get("secretName"):
            return "no Secret is named"
        return self._world.certificate(f"{namespace(ingress)}/{entry['secretName']}")

    # --- all together ------------------------------------------------------------------------------------------------

    def finished(self, served: frozenset[str]) -> Routing:
        taken = set(self._hosts)
        servers = tuple(self._server(self._hosts[name], taken) for name in sorted(self._hosts))
        default = self._world.default
        if default is not None:
            self._certificates[default.file] = default
        return Routing(
            servers,
            self._pools,
            tuple(self._problems),
            served,
            self._certificates,
            default.file if default is not None else "",
            self._users,
        )

    def _server(self, host: _Host, taken: set[str]) -> Server:
        for start, below in host.prefixes:
            exact = (Match.EXACT, start)
            host.locations.setdefault(
                exact,
                Location(Match.EXACT, start, below.backend, below.ingress, below.service, below.settings),
            )
        root = (Match.START, "/")
        if root not in host.locations:
            host.locations[root] = host.default or Location(Match.START, "/", None, status=404)
        aliases = []
        for alias, who in host.aliases.items():
            if alias in taken:
                self._tell(who, CONFLICT, f"the alias {alias!r} is a host already")
            else:
                taken.add(alias)
                aliases.append(alias)
        locations = sorted(host.locations.values(), key=_order)
        return Server(host.name, tuple(locations), host.certificate, host.tls, tuple(aliases))

    def _tell(self, who: str, reason: str, message: str, *, settling: bool = False) -> None:
        self._problems[Problem(who, reason, message, settling)] = None


def _order(location: Location) -> tuple[int, int, str]:
    """Expressions are tried in the order they are written in; of the rest the order is for readers."""
    kind = {Match.EXACT: 0, Match.REGEX: 1, Match.REGEX_ANY_CASE: 1, Match.START: 2}[location.match]
    return kind, -len(location.path), location.path


def _decoded(path: str) -> str:
    """The path as nginx compares it: nothing is percent-encoded any more."""
    if "%" not in path:
        return path
    decoded = unquote_to_bytes(path).decode()
    quoted(decoded)
    return decoded


def _escaped(path: str) -> str:
    """An expression that matches these characters, in PCRE."""
    return re.sub(r"([^A-Za-z0-9_/~%@:,;=&!' -])", r"\\\1", path)


def referenced_secrets(ingresses: Iterable[Obj]) -> Collection[str]:
    """Keys of Secrets that Ingresses name, for whoever wants to know whether a change concerns them."""
    found: set[str] = set()
    for ingress in ingresses:
        space = namespace(ingress)
        found.update(
            f"{space}/{entry['secretName']}"
            for entry in (ingress.get("spec") or {}).get("tls") or ()
            if entry.get("secretName")
        )
        auth = judge(annotations(ingress), space).settings.basic_auth
        if auth is not None:
            found.add(auth.secret)
    return found
