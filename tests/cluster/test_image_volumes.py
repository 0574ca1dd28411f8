"""The content of an image as a volume."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from agents.images.mounts import ImageMounts, volume_path
from agents.runtime import Runtime
from orca.lab import host as hosts
from orca.lab.layout import Lab
from tests.support import images
from tests.support.engine import PrivateEngine
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
    kubectl("wait", "pod/good", "--for=condition=Ready", "--timeout=120s")
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


async def test_an_engine_with_other_storage_copies_the_content() -> None:
    engine = PrivateEngine(f"vfs-{os.getpid()}")
    root = Path(tempfile.mkdtemp(prefix="orca-volumes-", dir="/var/tmp"))
    runtime = Runtime(str(engine.socket))
    mounts, target = ImageMounts(runtime, root), volume_path(root, "pod", "data")
    try:
        engine.start("--storage-driver=vfs")
        engine.docker("load", text=images.busybox())
        image = await runtime.images.inspect(images.BUSYBOX)
        for _ in range(2):
            await mounts.mount(image, "pod", "data")
        assert filecmp.cmp(target / "bin/busybox", "/bin/busybox", shallow=False)
        assert (target / "bin/sh").is_symlink()
        assert not (target / ".dockerenv").exists()
        with pytest.raises(OSError, match="Read-only"):
            (target / "x").touch()
        await mounts.release("pod")
        assert not engine.docker("ps", "-aq")
    finally:
        await runtime.aclose()
        if await mounts.mounted("pod", "data"):
            subprocess.run(["umount", str(target)], check=True)  # noqa: ASYNC221
        engine.stop()
        shutil.rmtree(root)
