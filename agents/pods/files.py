"""Texts of the files every container of a pod is given: /etc/hosts and /etc/resolv.conf, and the pod's names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agents.pods.containers import spec_of
from orca.api.objects import Obj, name, namespace

MANAGED_HOSTS = "# Kubernetes-managed hosts file.\n"
MANAGED_HOSTS_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"
HOSTNAME_LIMIT = 63
MAXIMUM_NAMESERVERS = 3
MAXIMUM_SEARCHES = 32


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
            searches = words[1:]
        elif words[0] == "options":
            options = words[1:]
    return Resolver(tuple(nameservers), tuple(searches), tuple(options))


def resolver_for(pod: Obj, host: Resolver, cluster_dns: Sequence[str], domain: str) -> Resolver:
    """By ``dnsPolicy`` and ``dnsConfig``."""
    spec = spec_of(pod)
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = Resolver()
    elif policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster_dns:
        space = namespace(pod)
        own = (f"{space}.svc.{domain}", f"svc.{domain}", domain)
        base = Resolver(tuple(cluster_dns), (*own, *(s for s in host.searches if s not in own)), ("ndots:5",))
    else:
        base = host
    extra = spec.get("dnsConfig") or {}
    options = dict(_option(text) for text in base.options)
    for option in extra.get("options") or ():
        options[option["name"]] = option.get("value") or ""
    return Resolver(
        _unique([*base.nameservers, *(extra.get("nameservers") or ())])[:MAXIMUM_NAMESERVERS],
        _unique([*base.searches, *(extra.get("searches") or ())])[:MAXIMUM_SEARCHES],
        tuple(f"{key}:{value}" if value else key for key, value in options.items()),
    )


def _option(text: str) -> tuple[str, str]:
    key, _, value = text.partition(":")
    return key, value


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def hostname_of(pod: Obj, domain: str) -> str:
    """What ``hostname`` prints in the pod's containers."""
    spec = spec_of(pod)
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"])
    short = (spec.get("hostname") or name(pod))[:HOSTNAME_LIMIT].rstrip("-.")
    if spec.get("setHostnameAsFQDN"):
        full = f"{short}.{fqdn_suffix(pod, domain)}" if spec.get("subdomain") else short
        return full[:64]
    return short


def fqdn_suffix(pod: Obj, domain: str) -> str:
    """``subdomain.namespace.svc.cluster.local``, "" without a subdomain."""
    subdomain = spec_of(pod).get("subdomain")
    return f"{subdomain}.{namespace(pod)}.svc.{domain}" if subdomain else ""


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
        override = spec.get("hostnameOverride")
        hostname = override or (spec.get("hostname") or name(pod))[:HOSTNAME_LIMIT].rstrip("-.")
        suffix = "" if override else fqdn_suffix(pod, domain)
        names = f"{hostname}.{suffix}\t{hostname}" if suffix else hostname
        text += "".join(f"{address}\t{names}\n" for address in ips)
    aliases = spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}\n" for alias in aliases)
    return text
