"""The status an object has before anybody wrote one.

Upstream's status structs are held by value, so they are always there, with the zeros of the fields that are not
omitted when empty. Clients read ``obj["status"]`` right after a create. Reference: k8s.io/api ``types.go``.
"""

from copy import deepcopy
from functools import partial

from orca.api.builtin import (
    APISERVICES,
    CERTIFICATESIGNINGREQUESTS,
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    FLOWSCHEMAS,
    HORIZONTALPODAUTOSCALERS,
    HORIZONTALPODAUTOSCALERS_V1,
    INGRESSES,
    JOBS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PRIORITYLEVELCONFIGURATIONS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SERVICECIDRS,
    SERVICES,
    STATEFULSETS,
    VALIDATINGADMISSIONPOLICIES,
    VOLUMEATTACHMENTS,
)
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.strategy import register

EMPTY: dict[Resource, Obj] = {
    APISERVICES: {},
    CERTIFICATESIGNINGREQUESTS: {},
    CRONJOBS: {},
    DAEMONSETS: {
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    },
    DEPLOYMENTS: {},
    FLOWSCHEMAS: {},
    HORIZONTALPODAUTOSCALERS: {"desiredReplicas": 0},
    HORIZONTALPODAUTOSCALERS_V1: {"currentReplicas": 0, "desiredReplicas": 0},
    INGRESSES: {"loadBalancer": {}},
    JOBS: {},
    PERSISTENTVOLUMECLAIMS: {"phase": "Pending"},
    PERSISTENTVOLUMES: {"phase": "Pending"},
    PODDISRUPTIONBUDGETS: {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
    PRIORITYLEVELCONFIGURATIONS: {},
    REPLICASETS: {"replicas": 0},
    REPLICATIONCONTROLLERS: {"replicas": 0},
    RESOURCECLAIMS: {},
    RESOURCEQUOTAS: {},
    SERVICECIDRS: {},
    SERVICES: {"loadBalancer": {}},
    STATEFULSETS: {"availableReplicas": 0, "replicas": 0},
    VALIDATINGADMISSIONPOLICIES: {},
    VOLUMEATTACHMENTS: {"attached": False},
}

for _row, _status in EMPTY.items():
    register(_row, empty_status=partial(deepcopy, _status))
