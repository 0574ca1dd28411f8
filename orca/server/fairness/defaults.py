"""The FlowSchemas and PriorityLevelConfigurations every cluster has. Pure data.

Reference: k8s.io/apiserver ``pkg/apis/flowcontrol/bootstrap``. Mandatory ones are always as here; suggested ones are
kept so while their annotation ``apf.kubernetes.io/autoupdate-spec`` says "true".
"""

from __future__ import annotations

from collections.abc import Sequence

from orca.api.builtin import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.auth.identity import AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED

API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"
EXEMPT, CATCH_ALL = "exempt", "catch-all"
_ALL = ["*"]
_EVERYBODY = (UNAUTHENTICATED, AUTHENTICATED)
_LEADING = ["get", "create", "update"]


def _level(name: str, shares: int, lendable: int, queues: int, hand: int) -> Obj:
    queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
    response: Obj = {"type": "Queue", "queuing": queuing} if queues else {"type": "Reject"}
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def _object(kind: str, name: str, spec: Obj) -> Obj:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _groups(*names: str) -> list[Obj]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Obj]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _system_accounts(*names: str) -> list[Obj]:
    return [{"kind": "ServiceAccount", "serviceAccount": {"name": n, "namespace": "kube-system"}} for n in names]


def _rule(verbs: list[str], group: str, resources: list[str], *, cluster: bool = False) -> Obj:
    found: Obj = {"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": _ALL}
    return {**found, "clusterScope": True} if cluster else found


def _schema(
    name: str, level: str, precedence: int, by: str, subjects: list[Obj], rules: Sequence[Obj] | None = None
) -> Obj:
    matched: Obj = {"subjects": subjects}
    if rules is None:
        matched["resourceRules"] = [_rule(_ALL, "*", _ALL, cluster=True)]
        matched["nonResourceRules"] = [{"verbs": _ALL, "nonResourceURLs": _ALL}]
    else:
        matched["resourceRules"] = list(rules)
    spec: Obj = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [matched],
    }
    if by:
        spec["distinguisherMethod"] = {"type": by}
    return _object("FlowSchema", name, spec)


def _probes() -> Obj:
    found = _schema("probes", EXEMPT, 2, "", _groups(*_EVERYBODY), ())
    found["spec"]["rules"][0] = {
        "subjects": _groups(*_EVERYBODY),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    }
    return found


_EXEMPT_SPEC: Obj = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}

MANDATORY: tuple[tuple[Resource, Obj], ...] = (
    (PRIORITYLEVELCONFIGURATIONS, _object("PriorityLevelConfiguration", EXEMPT, _EXEMPT_SPEC)),
    (PRIORITYLEVELCONFIGURATIONS, _level(CATCH_ALL, 5, 0, 0, 0)),
    (FLOWSCHEMAS, _schema(EXEMPT, EXEMPT, 1, "", _groups(MASTERS))),
    (FLOWSCHEMAS, _schema(CATCH_ALL, CATCH_ALL, 10000, "ByUser", _groups(*_EVERYBODY))),
)

_LEASES = _rule(_LEADING, "coordination.k8s.io", ["leases"])
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"

SUGGESTED: tuple[tuple[Resource, Obj], ...] = (
    (PRIORITYLEVELCONFIGURATIONS, _level("system", 30, 33, 64, 6)),
    (PRIORITYLEVELCONFIGURATIONS, _level("node-high", 40, 25, 64, 6)),
    (PRIORITYLEVELCONFIGURATIONS, _level("leader-election", 10, 0, 16, 4)),
    (PRIORITYLEVELCONFIGURATIONS, _level("workload-high", 40, 50, 128, 6)),
    (PRIORITYLEVELCONFIGURATIONS, _level("workload-low", 100, 90, 128, 6)),
    (PRIORITYLEVELCONFIGURATIONS, _level("global-default", 20, 50, 128, 6)),
    (FLOWSCHEMAS, _probes()),
    (
        FLOWSCHEMAS,
        _schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            _users(_MANAGER, _SCHEDULER) + _system_accounts("*"),
            [_LEASES],
        ),
    ),
    (
        FLOWSCHEMAS,
        _schema(
            "endpoint-controller",
            "workload-high",
            150,
            "ByUser",
            _users(_MANAGER) + _system_accounts("endpoint-controller", "endpointslicemirroring-controller"),
            [_rule(_LEADING, "", ["endpoints"])],
        ),
    ),
    (
        FLOWSCHEMAS,
        _schema(
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            _system_accounts("*"),
            [_rule(_LEADING, "", ["endpoints", "configmaps"]), _LEASES],
        ),
    ),
    (
        FLOWSCHEMAS,
        _schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            _groups(NODES),
            [
                _rule(_ALL, "", ["nodes", "nodes/status"], cluster=True),
                _rule(_ALL, "coordination.k8s.io", ["leases"]),
            ],
        ),
    ),
    (FLOWSCHEMAS, _schema("system-nodes", "system", 500, "ByUser", _groups(NODES))),
    (FLOWSCHEMAS, _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", _users(_MANAGER))),
    (FLOWSCHEMAS, _schema("kube-scheduler", "workload-high", 800, "ByNamespace", _users(_SCHEDULER))),
    (
        FLOWSCHEMAS,
        _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _system_accounts("*")),
    ),
    (FLOWSCHEMAS, _schema("service-accounts", "workload-low", 9000, "ByUser", _groups(SERVICE_ACCOUNTS))),
    (FLOWSCHEMAS, _schema("global-default", "global-default", 9900, "ByUser", _groups(*_EVERYBODY))),
)
