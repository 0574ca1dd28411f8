"""The content of an image as a volume, on a host of the lab."""

from __future__ import annotations

import os

import pytest

from orca.lab import host as hosts
from orca.lab.layout import Lab
from tests.support.kubectl import Kubectl, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  nodeName: host-1
  containers:
  - name: with
    image: busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sleep, "3600"]
    volumeMounts:
    - {{name: data, mountPath: /data}}
    - {{name: data, mountPath: /part, subPath: bin}}
  - name: without
    image: busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sleep, "3600"]
  volumes:
  - name: data
    image: {{reference: "{image}", pullPolicy: {policy}}}
"""
HELD = ("docker", "ps", "-aq", "--filter", "label=orca.io/image-volume-of")


def test_an_image_is_a_volume_that_nobody_writes_to_and_nothing_of_it_is_left(lab: Lab, kubectl: Kubectl) -> None:
    host = next(one for one in lab.hosts if one.name == "host-1")
    kubectl("apply", "-f", "-", stdin=POD.format(name="good", image="busybox:latest", policy="IfNotPresent"))
    kubectl("apply", "-f", "-", stdin=POD.format(name="bad", image="absent.invalid/x:1", policy="Never"))
    kubectl("wait", "pod/good", "--for=condition=Ready", "--timeout=40s")
    listed = kubectl("exec", "good", "-c", "with", "--", "sh", "-c", "ls /data/bin; ls /part")
    assert listed.split().count("busybox") == 2
    denied = kubectl.try_("exec", "good", "-c", "with", "--", "touch", "/data/x")
    assert "Read-only file system" in denied.err
    # Only the container that mounts it waits for an image that cannot be had.
    states = "{range .status.containerStatuses[*]}{.name}={.state.waiting.reason}{.ready} {end}"
    eventually(
        lambda: (
            kubectl("get", "pod", "bad", "-o", f"jsonpath={states}").split()
            == ["with=ErrImageNeverPullfalse", "without=true"]
        ),
        what="one container of two",
    )
    uid = kubectl("get", "pod", "good", "-o", "jsonpath={.metadata.uid}")
    assert uid in hosts.call(host, "cat", "/proc/self/mountinfo")
    kubectl("delete", "pod", "good", "bad", "--wait")
    eventually(lambda: not hosts.call(host, *HELD).strip(), what="the image is let go")
    assert uid not in hosts.call(host, "cat", "/proc/self/mountinfo")
