"""`orca why` and `orca timeline` as a person uses them: a dozen broken workloads, and the cause in the first line."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

from orca.cli.why import explain
from orca.client.kubeconfig import Kubeconfig
from orca.lab.layout import Lab
from tests.cluster import workloads
from tests.cluster.conftest import ORCA
from tests.cluster.workloads import Manifest
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

NO_FILE = {"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 1}


def workload(name: str, kind: str = "Deployment", *, main: Manifest | None = None, **spec: Any) -> Manifest:
    """One pod that sleeps, but for what is broken."""
    container = {"name": "main", "image": "busybox:1.36", "command": ["sleep", "3600"], **(main or {})}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }
    of: Manifest = {"selector": {"matchLabels": {"app": name}}, "template": template}
    version = "apps/v1"
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        of, version = {"template": template, "backoffLimit": 0}, "batch/v1"
    elif kind == "StatefulSet":
        of |= {"serviceName": name, "replicas": 2}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": of}


def fails(text: str) -> Manifest:
    # What ends at once may have ended before the host has told that it started.
    return {"command": ["sh", "-c", f"echo {text}; sleep 1; exit 3"]}


def fails_when_told(text: str) -> Manifest:
    """The end is not to come before the host has told of the start, however busy it is."""
    return {"command": ["sh", "-c", f"echo {text}; until [ -e /tmp/go ]; do sleep 0.1; done; exit 3"]}


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {
        "storageClassName": "no-such",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
SET = workload("set", "StatefulSet")
SET["spec"]["volumeClaimTemplates"] = [CLAIM]
BROKEN: dict[str, tuple[Manifest, str]] = {
    "deployment/image": (
        workload("image", main={"image": "none.example/none:1", "imagePullPolicy": "Never"}),
        "container main: ErrImageNeverPull",
    ),
    "deployment/large": (workload("large", main={"resources": {"requests": {"cpu": "4k"}}}), "cpu: asks for 4000"),
    "deployment/crash": (workload("crash", main=fails("no database")), "container main ended with exit code 3"),
    "deployment/probe": (
        workload("probe", main={"readinessProbe": NO_FILE}),
        "container main runs and is not ready: Readiness probe failed: cat: can't open '/ready'",
    ),
    "deployment/volume": (
        workload("volume", volumes=[{"name": "v", "configMap": {"name": "settings"}}]),
        'configmap "settings" not found',
    ),
    "deployment/init": (
        workload("init", initContainers=[{"name": "wait", "image": "busybox:1.36", "command": ["sleep", "3600"]}]),
        "init container wait (init container 1 of 1) runs",
    ),
    "deployment/account": (workload("account", serviceAccountName="nobody"), 'serviceaccount "nobody" not found'),
    "statefulset/set": (SET, 'pod/set-0: its claim "data-set-0" has no volume: there is no StorageClass "no-such"'),
    "daemonset/daemon": (
        workload("daemon", "DaemonSet", nodeSelector={"disk": "gold"}),
        "the pod wants the label disk=gold, the node has none",
    ),
    "job/job": (workload("job", "Job", main=fails_when_told("no input")), "container main ended with exit code 3"),
    "gated": (workloads.pod("gated", schedulingGates=[{"name": "example.com/quota"}]), "gated by example.com/quota"),
    "foreign": (workloads.pod("foreign", schedulerName="mine"), "no scheduler of this cluster answers to"),
}


def test_the_first_line_names_the_cause_of_each_of_a_dozen_broken_workloads(kubectl: Kubectl, lab: Lab) -> None:
    kubectl("apply", "-f", "-", stdin=workloads.text(*(manifest for manifest, _ in BROKEN.values())))
    _let_the_job_fail(kubectl)
    config = Kubeconfig(lab.kubeconfig)
    left, said = dict(BROKEN), {}

    def all_named() -> bool:
        for target, (_, cause) in list(left.items()):
            said[target] = asyncio.run(explain(config, target, kubectl.namespace)).cause
            if cause in said[target]:
                del left[target]
        assert not left, {target: said[target] for target in left}
        return True

    eventually(all_named, every=0.5, what="all causes are named")

    why = [ORCA, "why", "--kubeconfig", str(lab.kubeconfig), "-n", kubectl.namespace, "deployment/crash"]

    def said_why() -> bool:
        """Not while it is on its way to the next crash."""
        done = subprocess.run(why, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 1, done
        first, *rest = done.stdout.splitlines()
        assert first.startswith("deployment/crash: 0 of 1 pods ready: pod/crash-"), first
        assert "it printed: no database" in done.stdout, rest
        assert any("kubectl logs crash-" in line for line in rest), rest
        return True

    eventually(said_why, every=0.5, what="what is printed about a crash")

    story = [ORCA, "timeline", "--kubeconfig", str(lab.kubeconfig), "-n", kubectl.namespace, "-o", "json", "job/job"]

    def told_in_order() -> bool:
        """Events come a little later than what they are about."""
        done = subprocess.run(story, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        told = [entry["what"] for entry in json.loads(done.stdout)]
        expected = ["created", "SuccessfulCreate", "Scheduled", "Pulled", "Created", "Started", "ended", "Failed"]
        places = [told.index(what) for what in expected]
        assert places == sorted(places), told
        return True

    eventually(told_in_order, every=0.5, what="the story of a job that failed")


def _let_the_job_fail(kubectl: Kubectl) -> None:
    """Once it is told that its pod has started."""

    def started() -> str:
        (pod,) = kubectl.items("pods", "-l", "job-name=job")
        name = str(pod["metadata"]["name"])
        told = kubectl.items("events", f"--field-selector=involvedObject.name={name},reason=Started")
        return name if told else ""

    name = eventually(started, what="the job's pod has started")
    kubectl("exec", name, "--", "touch", "/tmp/go")
