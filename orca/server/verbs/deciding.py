"""Kinds by which other requests are judged: who writes one of them is answered once this server judges by it.

Authorizers, admission plugins, allocators and proxies read the watch cache and never wait, and the cache hears of a
write a moment after it was acknowledged, on a busy machine a long moment. kube-apiserver asks its storage where that
would be seen (accounts, limits, budgets, addresses), and lags elsewhere (RBAC, webhooks, policies, classes); here none
of them lags behind a write that this server has answered. What another server was told follows as its watch does.
"""

from __future__ import annotations

from orca.api import builtin
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.store import Entry, Store

_RIGHTS = (
    builtin.CLUSTERROLES,
    builtin.CLUSTERROLEBINDINGS,
    builtin.ROLES,
    builtin.ROLEBINDINGS,
    builtin.SERVICEACCOUNTS,
    builtin.SECRETS,  # tokens
    builtin.PERSISTENTVOLUMES,  # and what else leads nodes to what is theirs
    builtin.PERSISTENTVOLUMECLAIMS,
    builtin.VOLUMEATTACHMENTS,
    builtin.RESOURCESLICES,
    builtin.NETWORKPOLICIES,
)
_ADMISSION = (
    builtin.NAMESPACES,
    builtin.LIMITRANGES,
    builtin.RESOURCEQUOTAS,
    builtin.PRIORITYCLASSES,
    builtin.RUNTIMECLASSES,
    builtin.STORAGECLASSES,
    builtin.INGRESSCLASSES,
    builtin.CSIDRIVERS,
    builtin.MUTATINGADMISSIONPOLICIES,
    builtin.MUTATINGADMISSIONPOLICYBINDINGS,
    builtin.MUTATINGWEBHOOKCONFIGURATIONS,
    builtin.VALIDATINGADMISSIONPOLICIES,
    builtin.VALIDATINGADMISSIONPOLICYBINDINGS,
    builtin.VALIDATINGWEBHOOKCONFIGURATIONS,
)
_WAYS = (
    builtin.APISERVICES,
    builtin.CUSTOMRESOURCEDEFINITIONS,
    builtin.NODES,
    builtin.SERVICES,
    builtin.ENDPOINTSLICES,
    builtin.SERVICECIDRS,
    builtin.IPADDRESSES,
    builtin.PODDISRUPTIONBUDGETS,
)
_DECIDING = frozenset(resource.storage for resource in (*_RIGHTS, *_ADMISSION, *_WAYS))  # whatever version was written


def decides(resource: Resource) -> bool:
    """Whether others are judged by what is written of the kind."""
    return resource.storage in _DECIDING


async def in_effect(store: Store, written: Entry) -> None:
    """Return when this server judges by what was ``written``, or its cache cannot follow: written it is in any case."""
    try:
        await store.reach(written.revision)
    except ApiError:
        return
