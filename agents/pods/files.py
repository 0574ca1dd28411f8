"""Texts of the files every container of a pod is given: /etc/hosts and /etc/resolv.conf, and the pod's names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agents.pods.containers import spec_of
from agents.pods.environment import ConfigError
from agents.pods.naming import pod_title
from orca.api.objects import Obj, name, namespace

MANAGED_HOSTS = "# Kubernetes-managed hosts file.\n"
MANAGED_HOSTS_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"
HOSTNAME_LIMIT, FQDN_LIMIT = 63, 64
MAXIMUM_NAMESERVERS = 3
MAXIMUM_SEARCHES = 32
MAXIMUM_SEARCH_CHARACTERS = 2048
LONGEST_SEARCH = 253
NO_CLUSTER_DNS = (
    'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
    'Falling back to "Default" policy.'
)


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = field(default=())

    def text(self) -> str:
        lines = []
        if self.searches:
            lines.append(f"search {' '.join(self.searches)}")
        lines += [f"nameserver {server}" for server in self.nameservers]
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "\n".join(lines) + "\n" if lines else ""


def parse_resolver(text: str) -> Resolver:
    """Read a resolv.conf."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver" and len(words) > 1:
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            # With and without the last dot it is the same domain.
            searches = [word.removesuffix(".") or word for word in words[1:]]
        elif words[0] == "options":
            options = words[1:]
    return Resolver(tuple(nameservers), tuple(searches), tuple(options))


def resolver_for(
    pod: Obj, host: Resolver | None, cluster_dns: Sequence[str], domain: str
) -> tuple[Resolver, list[tuple[str, str]]]:
    """By ``dnsPolicy`` and ``dnsConfig``; and reasons and texts of events on what cannot be as it was asked for.

    ``host`` is None on a node that is told to use no resolv.conf of its own.
    """
    spec = spec_of(pod)
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    known, problems = host or Resolver(), []
    if policy == "None":
        base = Resolver()
    elif policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster_dns:
        space = namespace(pod)
        own = (f"{space}.svc.{domain}", f"svc.{domain}", domain) if domain else ()
        base = Resolver(tuple(cluster_dns), _unique([*own, *known.searches]), ("ndots:5",))
    else:
        if policy != "Default":
            problems.append(("MissingClusterDNS", f'pod: "{pod_title(pod)}". {NO_CLUSTER_DNS}'))
        # No servers would mean the resolver's own idea of them, which is this host.
        base = known if host is not None else Resolver(("127.0.0.1",), (".",))
    extra = spec.get("dnsConfig") or {}
    options = dict(_option(text) for text in base.options)
    for option in extra.get("options") or ():
        options[option["name"]] = option.get("value") or ""
    servers, no_servers = _fitting_servers(_unique([*base.nameservers, *(extra.get("nameservers") or ())]))
    searches, no_searches = _fitting_searches(_unique([*base.searches, *(extra.get("searches") or ())]))
    listed = tuple(f"{key}:{value}" if value else key for key, value in options.items())
    problems += [("DNSConfigForming", text) for text in (*no_servers, *no_searches)]
    return Resolver(servers, searches, listed), problems


def _fitting_servers(servers: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    if len(servers) <= MAXIMUM_NAMESERVERS:
        return servers, []
    kept = servers[:MAXIMUM_NAMESERVERS]
    text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is"
    return kept, [f"{text}: {' '.join(kept)}"]


def _fitting_searches(searches: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """The C library of many images knows no more, and some end at a domain that is too long."""
    kept = [domain for domain in searches[:MAXIMUM_SEARCHES] if len(domain) <= LONGEST_SEARCH]
    while len(" ".join(kept)) > MAXIMUM_SEARCH_CHARACTERS:
        kept.pop()
    if len(kept) == len(searches):
        return searches, []
    text = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is"
    return tuple(kept), [f"{text}: {' '.join(kept)}"]


def _option(text: str) -> tuple[str, str]:
    key, _, value = text.partition(":")
    return key, value


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def hostname_of(pod: Obj, domain: str) -> str:
    """What ``hostname`` prints in the pod's containers. Raises ``ConfigError`` for one that no kernel takes."""
    short, suffix = short_hostname(pod), fqdn_suffix(pod, domain)
    if not spec_of(pod).get("setHostnameAsFQDN") or not suffix:
        return short
    full = f"{short}.{suffix}"
    if len(full) > FQDN_LIMIT:
        raise ConfigError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({FQDN_LIMIT} characters is the max, {len(full)} characters requested)"
        )
    return full


def short_hostname(pod: Obj) -> str:
    """``hostnameOverride``, ``hostname``, or the pod's name, as much of it as fits."""
    spec = spec_of(pod)
    wanted = str(spec.get("hostnameOverride") or spec.get("hostname") or name(pod))
    return wanted if len(wanted) <= HOSTNAME_LIMIT else wanted[:HOSTNAME_LIMIT].rstrip("-.")


def fqdn_suffix(pod: Obj, domain: str) -> str:
    """``subdomain.namespace.svc.cluster.local``, "" without a subdomain or with another name given instead."""
    subdomain = spec_of(pod).get("subdomain")
    if not subdomain or spec_of(pod).get("hostnameOverride"):
        return ""
    return f"{subdomain}.{namespace(pod)}.svc.{domain}"


def hosts_text(pod: Obj, ips: Sequence[str], domain: str, host_file: str) -> str:
    """/etc/hosts: the host's own for pods in its network, otherwise loopback and the pod; then ``hostAliases``."""
    spec = spec_of(pod)
    if spec.get("hostNetwork"):
        text = MANAGED_HOSTS_HOST_NETWORK + host_file
    else:
        text = MANAGED_HOSTS + (
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\n"
            "fe00::0\tip6-mcastprefix\n"
            "fe00::1\tip6-allnodes\n"
            "fe00::2\tip6-allrouters\n"
        )
        hostname, suffix = short_hostname(pod), fqdn_suffix(pod, domain)
        names = f"{hostname}.{suffix}\t{hostname}" if suffix else hostname
        text += "".join(f"{address}\t{names}\n" for address in ips)
    aliases = spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}\n" for alias in aliases)
    return text
