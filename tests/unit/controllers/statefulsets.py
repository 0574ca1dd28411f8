"""StatefulSets and their pods as tests of their controller use them."""

from typing import Any

from orca.api.objects import Obj
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.statefulset.plan import Revisions
from tests.unit.controllers.support import pod, template

OLD_NEW = Revisions("old", "new")


CLAIM = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}


def statefulset(replicas: int = 3, *, start: int = 0, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "sts-uid", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "ordinals": {"start": start},
            **spec,
        },
    }


def rolling(partition: int = 0, unavailable: int | str = 1) -> Obj:
    return {"type": "RollingUpdate", "rollingUpdate": {"partition": partition, "maxUnavailable": unavailable}}


def member(ordinal: int, *, revision: str = "new", **more: Any) -> Obj:
    found = {"app": "web", HASH_LABEL: revision}
    return pod(f"web-{ordinal}", owner="sts-uid", kind="StatefulSet", labels=found, **more)


def going(ordinal: int, **more: Any) -> Obj:
    return member(ordinal, deletionTimestamp="2026-01-01T00:00:00Z", **more)
