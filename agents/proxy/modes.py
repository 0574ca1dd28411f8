"""Which backend writes the services of this host: ``--proxy-mode=auto|nftables|iptables|ipvs``.

``auto`` takes nftables where the kernel can do all it needs, then iptables. Backends are imported when they are chosen.
What a former mode has left is taken away by `clean_others` once the rules of the new one serve: until then a packet
finds the one or the other, and connections that exist keep the translation the kernel has noted for them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import structlog

from agents.network.iptables import Iptables
from agents.proxy.backend import Backend, BackendError, HostView

log = structlog.get_logger()

MODES = ("auto", "nftables", "iptables", "ipvs")


class ProxyModeError(Exception):
    """The mode asked for does not exist, or not on this host."""


def check_mode(mode: str) -> None:
    """Raises ``ProxyModeError`` for a mode that does not exist."""
    if mode not in MODES:
        raise ProxyModeError(f"--proxy-mode={mode} does not exist; use one of: {', '.join(MODES)}")


def make_backend(mode: str, iptables: Iptables, host: HostView) -> Backend:
    """The backend for a mode. Raises ``ProxyModeError`` when this host cannot have it, with the reason."""
    check_mode(mode)
    if problem := mode_problem(mode, host):
        raise ProxyModeError(problem)
    if mode == "auto":
        problem = nftables_problem()
        if problem:
            log.info("services are written with iptables", because=problem)
        mode = "iptables" if problem else "nftables"
        return _BACKENDS[mode](iptables, host)
    return _BACKENDS[mode](iptables, host)


def mode_problem(mode: str, host: HostView) -> str:
    """What keeps this host from serving in a mode, "" when nothing does; ``auto`` can always."""
    if mode == "nftables" and (problem := nftables_problem()):
        return f"--proxy-mode=nftables does not work on this host: {problem}"
    if mode == "ipvs":
        from agents.proxy.ipvs import IpvsBackend

        return IpvsBackend.problem(host.ipvs_scheduler)
    return ""


def nftables_problem() -> str:
    """Why this kernel cannot serve with nftables, "" when it can."""
    from agents.proxy.nftables import NftablesBackend

    return NftablesBackend.problem()


async def clean_others(chosen: str, iptables: Iptables, host: HostView) -> None:
    """Take away what other modes than ``chosen`` have left on this host. Raises ``BackendError``."""
    for mode, clean in _cleaners(iptables, host).items():
        if mode != chosen:
            await clean()


async def remove_rules() -> None:
    """Take away every service rule from this host, whichever mode has left it; for uninstalling. All are tried; raises
    ``BackendError`` for the first that failed."""
    failure: BackendError | None = None
    for clean in _cleaners(Iptables(), HostView()).values():
        try:
            await clean()
        except BackendError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _cleaners(iptables: Iptables, host: HostView) -> dict[str, Callable[[], Awaitable[None]]]:
    return {
        "nftables": lambda: _clean_nftables(iptables, host),
        "iptables": lambda: _iptables(iptables, host).remove_everything(),
        "ipvs": lambda: _clean_ipvs(iptables, host),
    }


async def _clean_nftables(iptables: Iptables, host: HostView) -> None:
    if not nftables_problem():
        backend = _nftables(iptables, host)
        await backend.remove_everything()
        backend.close()


def _iptables(iptables: Iptables, host: HostView) -> Backend:
    from agents.proxy.iptables import IptablesBackend

    return IptablesBackend(iptables, host)


def _nftables(iptables: Iptables, host: HostView) -> Backend:
    from agents.proxy.nftables import NftablesBackend

    return NftablesBackend(iptables, host)


def _ipvs(iptables: Iptables, host: HostView) -> Backend:
    from agents.proxy.ipvs import IpvsBackend

    return IpvsBackend(iptables, host)


async def _clean_ipvs(iptables: Iptables, host: HostView) -> None:
    # The first thing that mode makes on a host, and the last it takes away.
    if any(name == "kube-ipvs0" for _, name in socket.if_nameindex()):
        from agents.proxy.ipvs import IpvsBackend

        backend = IpvsBackend(iptables, host)
        try:
            await backend.remove_everything()
        finally:
            backend.close()


_BACKENDS: dict[str, Callable[[Iptables, HostView], Backend]] = {
    "nftables": _nftables,
    "iptables": _iptables,
    "ipvs": _ipvs,
}
