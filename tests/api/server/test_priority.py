"""Priority and fairness of a real server, and the two counts without it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"


async def test_requests_carry_their_flow_and_objects_are_kept(busy: ServerProcess, admin: Api) -> None:
    kubectl = Kubectl(kubectls.current(), busy.kubeconfig)
    table = kubectl("get", "flowschemas")
    assert "system-node-high" in table
    assert "True" not in table  # nothing dangles
    schemas = {item["metadata"]["name"]: item for item in kubectl.items("flowschemas")}
    levels = {item["metadata"]["name"]: item for item in kubectl.items("prioritylevelconfigurations")}
    assert schemas["exempt"]["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] == "true"
    async with Api(busy.kubeconfig, token="bob") as bob:
        answer = await bob.get("/api/v1/pods")
        assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == schemas["global-default"]["metadata"]["uid"]
        assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] == levels["global-default"]["metadata"]["uid"]
        # A schema of one's own takes effect at once, and says when its level is not there.
        mine = {
            "metadata": {"name": "bobs"},
            "spec": {
                "matchingPrecedence": 50,
                "priorityLevelConfiguration": {"name": "bobs"},
                "rules": [
                    {
                        "subjects": [{"kind": "User", "user": {"name": "bob"}}],
                        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/version"]}],
                    }
                ],
            },
        }
        assert (await admin.post(f"{FLOW}/flowschemas", mine)).status == 201
        eventually(lambda: "True" in kubectl("get", "flowschema", "bobs", "--no-headers").split())
        assert (await bob.get("/version")).headers["X-Kubernetes-PF-PriorityLevel-UID"] == levels["global-default"][
            "metadata"
        ]["uid"]
        none = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
        level = {"metadata": {"name": "bobs"}, "spec": {"type": "Limited", "limited": none}}
        assert (await admin.post(f"{FLOW}/prioritylevelconfigurations", level)).status == 201
        eventually(lambda: "False" in kubectl("get", "flowschema", "bobs", "--no-headers").split())
        refused = await bob.get("/version")
        assert refused.failure == (429, "TooManyRequests", "Too many requests, please try again later.")
        assert int(refused.headers["Retry-After"]) >= 1
        dumped = (await admin.get("/debug/api_priority_and_fairness/dump_priority_levels")).raw.decode()
        assert "bobs" in dumped
        assert (await admin.delete(f"{FLOW}/flowschemas/bobs")).status == 200


async def test_a_noisy_client_does_not_starve_heartbeats(busy: ServerProcess, admin: Api) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            body = {"metadata": {"name": f"big-{number}"}, "data": {"x": "y" * 8000}}
            group.create_task(admin.post("/api/v1/namespaces/default/configmaps", body))
    subjects = [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "noise"}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "noise"}, "roleRef": role, "subjects": subjects}
    await admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    async with Api(busy.kubeconfig, token="node") as node:
        spec = {"holderIdentity": "n1", "leaseDurationSeconds": 40}
        lease = (await node.post(LEASES, {"metadata": {"name": "n1"}, "spec": spec})).json
        noise = subprocess.Popen(  # noqa: ASYNC220 - starts at once
            [sys.executable, "-m", "tests.support.noise", node.url, "noisy", "60", "/api/v1/configmaps"],
            stdout=subprocess.PIPE,
        )
        assert noise.stdout is not None
        took: list[float] = []
        try:
            assert await asyncio.to_thread(noise.stdout.readline) == b"begun\n"
            for _ in range(40):
                began = time.perf_counter()
                renewed = await node.put(f"{LEASES}/n1", lease)
                took.append(time.perf_counter() - began)
                assert renewed.status == 200, renewed.raw
                lease = renewed.json
                lease["spec"]["leaseTransitions"] = len(took)
                await asyncio.sleep(0.05)
            waited = _mean_waits((await admin.get("/metrics")).raw.decode())
        finally:
            noise.terminate()
            told = json.loads(noise.communicate(timeout=PATIENCE)[0])
    print(
        f"renewals of a lease: median {median(took) * 1000:.0f} ms, waiting {waited['system-node-high'] * 1000:.2f} ms"
        f"; lists beside them: {told['seconds'] * 1000:.0f} ms, waiting {waited['global-default'] * 1000:.1f} ms"
    )
    # Whatever the machine, and whatever it takes to answer: who asks for little does not stand in the same line.
    assert waited["system-node-high"] < waited["global-default"] / 4
    assert max(took) < PATIENCE


def _mean_waits(metrics: str) -> dict[str, float]:
    """Seconds that requests of each FlowSchema waited until they were let in."""
    name = "apiserver_flowcontrol_request_wait_duration_seconds"
    found: dict[str, dict[str, float]] = {"sum": {}, "count": {}}
    for kind, schema, value in re.findall(
        rf'^{name}_(sum|count){{execute="true",flow_schema="([^"]+)",[^}}]*}} (\S+)$', metrics, re.MULTILINE
    ):
        found[kind][schema] = float(value)
    return {schema: found["sum"][schema] / count for schema, count in found["count"].items() if count}


async def test_without_fairness_two_counts_limit_requests_and_watches_are_not_among_them(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("bob,bob,3\n")
    server = ServerProcess(
        tmp_path,
        "--no-controllers",
        f"--token-auth-file={tokens}",
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=2",
    )
    server.start()
    try:
        async with Api(server.kubeconfig) as api, Api(server.kubeconfig, token="bob") as bob:
            path = "/api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name%3Dnone"
            begun = [asyncio.Event() for _ in range(5)]
            watches = [asyncio.create_task(api.events(path, 1, begun=one)) for one in begun]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(one.wait() for one in begun))
            answer = await bob.get("/version")
            assert answer.status == 200, answer.raw
            assert "X-Kubernetes-PF-FlowSchema-UID" not in answer.headers
            assert (await api.get(f"{FLOW}/flowschemas")).status == 200
            assert not any(one.done() for one in watches)
            for one in watches:
                one.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
    finally:
        server.stop()
