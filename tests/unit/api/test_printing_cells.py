"""What ``kubectl get`` shows, kind by kind."""

from datetime import UTC, datetime

import pytest

from orca.api import builtin
from orca.api.builtin import BUILTIN
from orca.api.printing import columns, row_conditions, table

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
BORN = "2026-01-02T11:55:00Z"


def shown(resource, obj):
    """Column name -> cell."""
    obj = {"metadata": {"name": "x", "creationTimestamp": BORN, **obj.pop("metadata", {})}, **obj}
    definitions, rows = table(resource, [obj], NOW)
    return dict(zip((d["name"] for d in definitions), rows[0], strict=True))


def pod(spec=None, status=None, **meta):
    containers = [{"name": "c"}]
    return shown(builtin.PODS, {"metadata": meta, "spec": {"containers": containers, **(spec or {})},
                                "status": status or {}})  # fmt: skip


RUNNING = {"name": "c", "ready": True, "restartCount": 0, "state": {"running": {}}}


def container(state, **more):
    return {"name": "c", "ready": False, "restartCount": 0, "state": state, **more}


@pytest.mark.parametrize(
    ("status", "ready", "word"),
    [
        ({"phase": "Pending"}, "0/1", "Pending"),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, "1/1", "Running"),
        ({"phase": "Running", "containerStatuses": [container({"waiting": {"reason": "CrashLoopBackOff"}})]},
         "0/1", "CrashLoopBackOff"),
        ({"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ContainerCreating"}})]},
         "0/1", "ContainerCreating"),
        ({"phase": "Succeeded", "containerStatuses": [container({"terminated": {"reason": "Completed"}})]},
         "0/1", "Completed"),
        ({"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 3}})]}, "0/1", "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 137, "signal": 9}})]},
         "0/1", "Signal:9"),
        ({"phase": "Failed", "reason": "Evicted"}, "0/1", "Evicted"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
         "0/1", "SchedulingGated"),
    ],
)  # fmt: skip
def test_pod_status(status, ready, word):
    row = pod(status=status)
    assert (row["Ready"], row["Status"]) == (ready, word)


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([{"running": {}}, {"waiting": {"reason": "PodInitializing"}}], "Init:0/2"),
        ([{"terminated": {"exitCode": 0}}, {"running": {}}], "Init:1/2"),
        ([{"terminated": {"exitCode": 1, "reason": "Error"}}, {}], "Init:Error"),
        ([{"terminated": {"exitCode": 2}}, {}], "Init:ExitCode:2"),
        ([{"waiting": {"reason": "ImagePullBackOff"}}, {}], "Init:ImagePullBackOff"),
    ],
)
def test_pod_initializing(states, word):
    statuses = [{"name": f"i{n}", "restartCount": 0, "state": state} for n, state in enumerate(states)]
    row = pod({"initContainers": [{"name": "i0"}, {"name": "i1"}]},
              {"phase": "Pending", "initContainerStatuses": statuses})  # fmt: skip
    assert row["Status"] == word


def test_sidecars_count_as_containers():
    row = pod(
        {"initContainers": [{"name": "side", "restartPolicy": "Always"}]},
        {
            "phase": "Running",
            "initContainerStatuses": [{"name": "side", "started": True, "ready": True, "restartCount": 2,
                                       "state": {"running": {}}}],
            "containerStatuses": [RUNNING],
        },
    )  # fmt: skip
    assert (row["Ready"], row["Status"], row["Restarts"]) == ("2/2", "Running", "2")


def test_restarts_say_when_the_last_was():
    last = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T11:57:30Z"}}
    row = pod(status={"phase": "Running", "containerStatuses": [{**RUNNING, "restartCount": 3, "lastState": last}]})
    assert row["Restarts"] == "3 (2m30s ago)"


def test_a_deleted_pod_is_terminating_or_unknown():
    assert pod(status={"phase": "Running"}, deletionTimestamp=BORN)["Status"] == "Terminating"
    assert pod(status={"phase": "Running", "reason": "NodeLost"}, deletionTimestamp=BORN)["Status"] == "Unknown"
    ended = {"phase": "Succeeded", "containerStatuses": [container({"terminated": {"reason": "Completed"}})]}
    assert pod(status=ended, deletionTimestamp=BORN)["Status"] == "Completed"


def test_completed_beside_running_is_running_only_when_ready():
    statuses = [container({"terminated": {"reason": "Completed"}}), RUNNING]
    ready = [{"type": "Ready", "status": "True"}]
    assert pod(status={"containerStatuses": statuses, "conditions": ready})["Status"] == "Running"
    assert pod(status={"containerStatuses": statuses})["Status"] == "NotReady"


def test_pod_wide_cells():
    gates = [{"conditionType": "a"}, {"conditionType": "b"}]
    row = pod({"nodeName": "n", "readinessGates": gates},
              {"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "a", "status": "True"}]})  # fmt: skip
    assert [row[c] for c in ("IP", "Node", "Nominated Node", "Readiness Gates")] == ["10.0.0.1", "n", "<none>", "1/2"]
    assert pod()["IP"] == "<none>"


def test_finished_pods_have_a_completed_row():
    conditions = row_conditions(builtin.PODS, {"status": {"phase": "Failed"}})
    assert [(c["type"], c["reason"]) for c in conditions] == [("Completed", "Failed")]
    assert row_conditions(builtin.PODS, {"status": {"phase": "Running"}}) == []


TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}}


@pytest.mark.parametrize(
    ("resource", "obj", "cells"),
    [
        (builtin.DEPLOYMENTS,
         {"spec": {"replicas": 3, "selector": {"matchLabels": {"b": "2", "a": "1"}}, "template": TEMPLATE},
          "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}},
         ["x", "2/3", 3, 1, "5m", "a,b", "i:1,j:2", "a=1,b=2"]),
        (builtin.REPLICASETS, {"spec": {"replicas": 2, "template": TEMPLATE}, "status": {"replicas": 1}},
         ["x", 2, 1, 0, "5m", "a,b", "i:1,j:2", "<none>"]),
        (builtin.DAEMONSETS,
         {"spec": {"template": {"spec": {"nodeSelector": {"k": "v"}}},
                   "selector": {"matchExpressions": [{"key": "t", "operator": "In", "values": ["b", "a"]}]}},
          "status": {"desiredNumberScheduled": 2, "numberReady": 1}},
         ["x", 2, 0, 1, 0, 0, "k=v", "5m", "", "", "t in (a,b)"]),
        (builtin.STATEFULSETS, {"spec": {"replicas": 2, "template": TEMPLATE}, "status": {"readyReplicas": 1}},
         ["x", "1/2", "5m", "a,b", "i:1,j:2"]),
        (builtin.JOBS,
         {"spec": {"completions": 3, "template": TEMPLATE},
          "status": {"succeeded": 1, "startTime": BORN, "completionTime": "2026-01-02T11:56:10Z",
                     "conditions": [{"type": "Complete", "status": "True"}]}},
         ["x", "Complete", "1/3", "70s", "5m", "a,b", "i:1,j:2", "<none>"]),
        (builtin.JOBS, {"spec": {"parallelism": 4}}, ["x", "Running", "0/1 of 4", "", "5m", "", "", "<none>"]),
        (builtin.CRONJOBS,
         {"spec": {"schedule": "* * * * *", "suspend": False}, "status": {"active": [{}], "lastScheduleTime": BORN}},
         ["x", "* * * * *", "<none>", "False", 1, "5m", "5m", "", "", "<none>"]),
        (builtin.SERVICES,
         {"spec": {"type": "NodePort", "clusterIPs": ["10.96.0.5"], "selector": {"a": "b"},
                   "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}},
         ["x", "NodePort", "10.96.0.5", "<none>", "80:30080/TCP,53/UDP", "5m", "a=b"]),
        (builtin.SERVICES, {"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.6"}},
         ["x", "LoadBalancer", "10.96.0.6", "<pending>", "<none>", "5m", "<none>"]),
        (builtin.SERVICES, {"spec": {"type": "ExternalName", "externalName": "e.org"}},
         ["x", "ExternalName", "<none>", "e.org", "<none>", "5m", "<none>"]),
        (builtin.ENDPOINTS,
         {"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]},
         ["x", "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...", "5m"]),
        (builtin.ENDPOINTS, {}, ["x", "<none>", "5m"]),
        (builtin.ENDPOINTSLICES,
         {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]},
         ["x", "IPv4", "80", "10.0.0.1", "5m"]),
        (builtin.ENDPOINTSLICES, {"addressType": "IPv4"}, ["x", "IPv4", "<unset>", "<unset>", "5m"]),
        (builtin.NAMESPACES, {"status": {"phase": "Active"}}, ["x", "Active", "5m"]),
        (builtin.CONFIGMAPS, {"data": {"a": "1"}, "binaryData": {"b": ""}}, ["x", 2, "5m"]),
        (builtin.SECRETS, {"type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "5m"]),
        (builtin.ROLES, {}, ["x", BORN]),
        (builtin.ROLEBINDINGS,
         {"roleRef": {"kind": "Role", "name": "r"},
          "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]},
         ["x", "Role/r", "5m", "u", "", "n/s"]),
        (builtin.PERSISTENTVOLUMECLAIMS,
         {"spec": {"volumeName": "v", "storageClassName": "c", "volumeMode": "Filesystem"},
          "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]}},
         ["x", "Bound", "v", "1Gi", "RWX", "c", "<unset>", "5m", "Filesystem"]),
        (builtin.PODDISRUPTIONBUDGETS, {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}},
         ["x", "50%", "N/A", 1, "5m"]),
        (builtin.HORIZONTALPODAUTOSCALERS,
         {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3,
                   "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {
                       "type": "Utilization", "averageUtilization": 80}}}]}},
         ["x", "Deployment/d", "cpu: <unknown>/80%", "1", 3, 0, "5m"]),
        (builtin.INGRESSES, {"spec": {"rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}]}},
         ["x", "<none>", "a,b,c + 1 more...", "", "80", "5m"]),
    ],
)  # fmt: skip
def test_cells(resource, obj, cells):
    assert list(shown(resource, dict(obj)).values()) == cells


def test_nodes():
    row = shown(builtin.NODES, {
        "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"},
                   "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]},
    })  # fmt: skip
    assert row["Status"] == "Ready,SchedulingDisabled"
    assert row["Roles"] == "control-plane,edge"
    assert row["Internal-IP"] == "172.30.0.11"
    assert row["External-IP"] == "<none>"
    assert row["OS-Image"] == "<unknown>"
    assert shown(builtin.NODES, {})["Status"] == "Unknown"


def test_events_of_both_groups():
    old = shown(builtin.EVENTS, {
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "reason": "Pulled",
        "type": "Normal", "message": " done \n", "count": 3, "firstTimestamp": BORN,
        "lastTimestamp": "2026-01-02T11:59:50Z", "source": {"component": "kubelet", "host": "n"},
    })  # fmt: skip
    assert [old[c] for c in ("Last Seen", "Object", "Message", "First Seen", "Count", "Source")] == \
        ["10s", "pod/p", "done", "5m", 3, "kubelet, n"]  # fmt: skip
    new = shown(builtin.EVENTS_V1, {
        "regarding": {"kind": "Node", "name": "n"}, "eventTime": "2026-01-02T11:55:00.000000Z", "note": "hi",
        "reportingController": "c", "series": {"count": 7, "lastObservedTime": "2026-01-02T11:59:00.000000Z"},
    })  # fmt: skip
    assert [new[c] for c in ("Last Seen", "Object", "Message", "Count", "Source")] == ["60s", "node/n", "hi", 7, "c"]


WIDE = {
    "pods": ["IP", "Node", "Nominated Node", "Readiness Gates"],
    "deployments": ["Containers", "Images", "Selector"],
    "nodes": ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"],
    "services": ["Selector"],
    "events": ["Subobject", "Source", "First Seen", "Count", "Name"],
}


@pytest.mark.parametrize(
    "row", [row for row in BUILTIN if row.plural in WIDE and not row.virtual], ids=lambda row: row.group_resource
)
def test_wide_columns(row):
    assert [c["name"] for c in columns(row) if c["priority"]] == WIDE[row.plural]


def test_names_have_the_name_format_and_others_get_name_and_age():
    for row in BUILTIN:
        if row.group == "autoscaling" and row.kind == "Scale":
            continue
        formats = [c["format"] for c in columns(row) if c["name"] == "Name"]
        assert formats in (["name"], [""]), row
    custom = builtin.PODS.__class__("g.io", "v1", "things", "thing", "Thing", True, "", "/x", custom=True)
    assert [c["name"] for c in columns(custom)] == ["Name", "Age"]
    assert shown(custom, {"metadata": {"creationTimestamp": None}}) == {"Name": "x", "Age": "<unknown>"}
