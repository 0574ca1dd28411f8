"""Names as a resolver makes them of what a program asks for: search domains and ndots. Pure."""

from __future__ import annotations

import ipaddress

from orca.explain.trace.facts import Resolver, Wish

MOST = 8
"""Names that are tried: glibc knows six search domains."""


def parse_wish(text: str) -> Wish:
    """``web``, ``web.shop:http``, ``web:53/UDP``. Raises ValueError."""
    host, colon, port = text.partition(":")
    port, slash, protocol = port.partition("/")
    if not host or (colon and not port) or (slash and protocol.upper() not in ("TCP", "UDP", "SCTP")):
        raise ValueError(f"{text!r} is not SERVICE, SERVICE:PORT or SERVICE:PORT/PROTOCOL")
    if port.isdigit() and not 0 < int(port) < 65536:
        raise ValueError(f"{port} is no port")
    return Wish(host.lower(), port, protocol.upper())


def candidates(host: str, resolver: Resolver) -> tuple[str, ...]:
    """The names that are asked for one after the other until one is there."""
    if host.endswith("."):
        return (host.rstrip("."),)
    searched = [f"{host}.{search}" for search in resolver.searches]
    names = [host, *searched] if host.count(".") >= resolver.ndots else [*searched, host]
    return tuple(dict.fromkeys(names))[:MOST]


def service_of(host: str, own_namespace: str, domain: str) -> tuple[str, str]:
    """(namespace, name) of the Service that a name means to a pod of a namespace; ("", "") for one of the outside.

    A pod's host name (``db-0.db``) means the Service it belongs to only when it is written out.
    """
    plain = host.rstrip(".").lower()
    if is_address(plain):
        return "", ""
    for suffix in (f".svc.{domain}", ".svc"):
        if plain.endswith(suffix):
            labels = plain[: -len(suffix)].split(".")
            return (labels[-1], labels[-2]) if len(labels) >= 2 else ("", "")
    labels = plain.split(".")
    if host.endswith("."):
        return "", ""
    if len(labels) == 1:
        return own_namespace, labels[0]
    return (labels[1], labels[0]) if len(labels) == 2 else ("", "")


def expected_name(namespace: str, name: str, domain: str) -> str:
    return f"{name}.{namespace}.svc.{domain}"


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
