"""What a server does at its start, under the names that upstream's health checks have for it and in their order.

Only what is done here, too: an ``ok`` for something that does not exist would be a lie.
"""

from __future__ import annotations


def _hooks(*names: str) -> tuple[str, ...]:
    return tuple(f"poststarthook/{name}" for name in names)


_ADMISSION = _hooks("start-apiserver-admission-initializer", "generic-apiserver-start-informers")
"""Objects are in memory: whoever asks for webhooks and policies finds them."""
_CONSUMED = _hooks("priority-and-fairness-config-consumer", "priority-and-fairness-filter")
COUNTS = _hooks("max-in-flight-filter")
"""Instead of priority and fairness."""
_STORED = _hooks("storage-object-count-tracker-hook")
CUSTOM_KINDS = _hooks("start-apiextensions-informers", "start-apiextensions-controllers", "crd-informer-synced")
_NAMESPACES = _hooks("start-system-namespaces-controller", "start-cluster-authentication-info-controller")
IDENTITY = _hooks(
    "start-kube-apiserver-identity-lease-controller", "start-kube-apiserver-identity-lease-garbage-collector"
)
TOKENS = _hooks("start-legacy-token-tracking-controller")
ADDRESSES = _hooks("start-service-ip-repair-controllers")
_POLICY = _hooks("rbac/bootstrap-roles", "scheduling/bootstrap-system-priority-classes")
_PRODUCED = _hooks("priority-and-fairness-config-producer")
SERVICE = _hooks("bootstrap-controller")
_RANGES = _hooks("start-kubernetes-service-cidr-controller")
_AGGREGATION = _hooks(
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
)
DISCOVERED = "poststarthook/apiservice-discovery-controller"
_REGISTRATION = _hooks("kube-apiserver-autoregistration")
REGISTERED = "autoregister-completion"
_SCHEMAS = _hooks("apiservice-openapi-controller", "apiservice-openapiv3-controller")

LOADED = (*_ADMISSION, *_STORED)
INITIAL_OBJECTS = (*_NAMESPACES, *_POLICY, *_RANGES)
FAIRNESS = (*_CONSUMED, *_PRODUCED)
AGGREGATED = (*_AGGREGATION, *_REGISTRATION, *_SCHEMAS)


def hooks(*, fair: bool) -> tuple[str, ...]:
    """All of a server that goes by priority and fairness, or by two counts."""
    return (
        *_ADMISSION,
        *(_CONSUMED if fair else COUNTS),
        *_STORED,
        *CUSTOM_KINDS,
        *_NAMESPACES,
        *IDENTITY,
        *TOKENS,
        *ADDRESSES,
        *_POLICY,
        *(_PRODUCED if fair else ()),
        *SERVICE,
        *_RANGES,
        *_AGGREGATION,
        DISCOVERED,
        *_REGISTRATION,
        REGISTERED,
        *_SCHEMAS,
    )
