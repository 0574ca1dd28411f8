"""Running a server: priority and fairness, deadlines, the audit log, metrics, health and the end, over real HTTPS."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import yaml

from orca.server.identifiers import server_identity
from tests.api.server.api import Api
from tests.api.server.audited import logged
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE


async def test_writes_end_at_their_deadline(busy: ServerProcess, admin: Api) -> None:
    bad = await admin.get("/api/v1/pods?timeout=soon")
    assert bad.failure[:2] == (400, "BadRequest")
    assert (await admin.get("/api/v1/pods?timeout=10s")).status == 200
    # Etcd stands still: nothing can be written, and the client is told in its time.
    etcd = _run(
        ["pgrep", "-P", str(busy.process.pid if busy.process else 0), "etcd"],
    ).split()
    _run(["kill", "-STOP", *etcd])
    try:
        async with asyncio.timeout(45):  # without its own, a minute
            late = await admin.post("/api/v1/namespaces/default/configmaps?timeout=1s", {"metadata": {"name": "late"}})
        assert late.failure == (504, "Timeout", "Timeout: request did not complete within the allotted timeout")
    finally:
        _run(["kill", "-CONT", *etcd])
    kubectl = Kubectl(kubectls.current(), busy.kubeconfig)  # what comes next writes, too
    eventually(lambda: kubectl.try_("label", "namespace", "default", "etcd=there", "--overwrite").code == 0)


def _run(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


async def test_metrics_have_upstreams_names_and_labels(busy: ServerProcess, admin: Api) -> None:
    await admin.get("/api/v1/namespaces/default/pods")
    await admin.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "measured"}})
    await admin.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "measured"}})
    watching = asyncio.create_task(admin.get("/api/v1/configmaps?watch=1&timeoutSeconds=2"))
    async with Api(busy.kubeconfig, token="bob") as bob:
        await bob.get("/api/v1/pods")
    await admin.delete("/api/v1/namespaces/default/configmaps/measured")
    await admin.get("/api/v1/endpoints")
    await admin.get("/api/v1/pods", Impersonate_User="eve")
    async with Api(busy.kubeconfig, token="bob") as bob:
        await bob.get("/api/v1/pods", Impersonate_User="eve")
    await watching
    text = (await admin.get("/metrics")).raw.decode()
    for sample in (
        'apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",'
        'scope="namespace",subresource="",verb="LIST",version="v1"}',
        'apiserver_request_duration_seconds_bucket{component="apiserver",dry_run="",group="",le="0.005"',
        "apiserver_request_sli_duration_seconds_count{",
        'apiserver_response_sizes_bucket{component="apiserver"',
        'apiserver_current_inflight_requests{request_kind="readOnly"}',
        'apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps"',
        'apiserver_watch_events_total{group="",resource="configmaps",version="v1"}',
        "apiserver_watch_events_sizes_bucket{",
        'apiserver_watch_cache_events_received_total{group="",resource="configmaps"}',
        'apiserver_storage_objects{resource="configmaps"}',
        "apiserver_storage_size_bytes{",
        'etcd_request_duration_seconds_bucket{le="0.005",operation="create",type="configmaps"}',
        "apiserver_flowcontrol_nominal_limit_seats{",
        "apiserver_flowcontrol_dispatched_requests_total{",
        "apiserver_flowcontrol_current_executing_requests{",
        "apiserver_flowcontrol_request_wait_duration_seconds_bucket{",
        "apiserver_audit_event_total ",
        'authentication_token_cache_request_total{status="hit"}',
        'authentication_token_cache_request_duration_seconds_bucket{le="0.005",status="miss"}',
        'authentication_token_cache_active_fetch_count{status="in_flight"}',
        'authentication_attempts{result="success"}',
        'authentication_duration_seconds_bucket{le="0.001",result="success"}',
        'authentication_duration_seconds_bucket{le="16.384",result="success"}',
        'authenticated_user_requests{username="other"}',
        'authorization_attempts_total{result="allowed"}',
        'apiserver_impersonation_attempts_total{decision="allowed",mode="user-info"}',
        'apiserver_impersonation_attempts_total{decision="denied",mode=""}',
        'apiserver_impersonation_attempts_duration_seconds_bucket{decision="denied",le="0.001",mode=""}',
        'apiserver_impersonation_authorization_attempts_total{decision="denied",mode="legacy"}',
        'apiserver_admission_step_admission_duration_seconds_summary_count{operation="CREATE",type="validate"}',
        'apiserver_admission_step_admission_duration_seconds_bucket{le="0.005",operation="CREATE",type="admit"}',
        'apiserver_admission_controller_admission_duration_seconds_bucket{le="2.5",name="NamespaceLifecycle",'
        'operation="CREATE",rejected="false",type="admit"}',
        'apiserver_admission_controller_admission_duration_seconds_count{name="ValidatingAdmissionWebhook",'
        'operation="CREATE",type="validate"}',
        'apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",version="v1"}',
        'apiserver_audit_level_total{level="Metadata"}',
        'apiserver_flowcontrol_request_execution_seconds_bucket{flow_schema="exempt",le="0.005",type="regular"}',
        'apiserver_flowcontrol_current_executing_requests{flow_schema="exempt",priority_level="exempt"}',
        'apiserver_flowcontrol_work_estimated_seats_bucket{flow_schema="exempt",le="4"}',
        'apiserver_flowcontrol_demand_seats_bucket{le="0.2",priority_level="catch-all"}',
        'apiserver_flowcontrol_priority_level_request_utilization_count{phase="waiting",priority_level="system"}',
        "kubernetes_build_info{",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
    ):
        assert _has(text, sample), sample
    checks = (await admin.get("/metrics/slis")).raw.decode()
    assert 'kubernetes_healthcheck{name="etcd",type="livez"} 1.0' in checks


def _has(text: str, sample: str) -> bool:
    """Whether there is such a sample, whatever the order of its labels."""
    name, _, rest = sample.partition("{")
    wanted = {part for part in rest.rstrip("}").split(",") if part}
    return any(
        line.startswith(name) and wanted <= set(line.partition("{")[2].rpartition("}")[0].split(","))
        for line in text.splitlines()
    )


async def test_events_are_one_store_and_live_as_long_as_they_are_told(busy: ServerProcess, admin: Api) -> None:
    kubectl = Kubectl(kubectls.current(), busy.kubeconfig)
    stamp = "2026-01-02T03:04:05.000006Z"
    new = {
        "metadata": {"name": "new"},
        "eventTime": stamp,
        "reportingController": "example.com/tester",
        "reportingInstance": "tester-1",
        "action": "Testing",
        "reason": "Tested",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        "note": "it works",
        "type": "Normal",
        "series": {"count": 2, "lastObservedTime": stamp},
    }
    made = await admin.post("/apis/events.k8s.io/v1/namespaces/default/events", new)
    assert made.status == 201, made.raw
    core = (await admin.get("/api/v1/namespaces/default/events/new")).json
    assert core["involvedObject"]["name"] == "p"
    assert core["message"] == "it works"
    assert core["reportingComponent"] == "example.com/tester"
    assert core["reportingInstance"] == "tester-1"
    assert (core["eventTime"], core["action"], core["series"]["count"]) == (stamp, "Testing", 2)
    old = {
        "metadata": {"name": "old"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p", "uid": "u1"},
        "reason": "Old",
        "message": "as ever",
        "type": "Warning",
        "source": {"component": "kubelet", "host": "n1"},
        "count": 3,
    }
    made = await admin.post("/api/v1/namespaces/default/events", old)
    assert made.status == 201, made.raw
    seen = (await admin.get("/apis/events.k8s.io/v1/namespaces/default/events/old")).json
    assert seen["regarding"]["uid"] == "u1"
    assert (seen["note"], seen["deprecatedCount"], seen["deprecatedSource"]["host"]) == ("as ever", 3, "n1")
    for selector, names in (
        ("involvedObject.uid=u1", {"old"}),
        ("reason=Tested", {"new"}),
        ("type!=Normal", {"old"}),
        ("reportingComponent=example.com/tester", {"new"}),
    ):
        found = kubectl.items("events", f"--field-selector={selector}")
        assert {item["metadata"]["name"] for item in found} == names, selector
    wrong = await admin.post(
        "/apis/events.k8s.io/v1/namespaces/default/events", {**new, "metadata": {"name": "w"}, "reason": ""}
    )
    assert wrong.status == 422
    wrong = await admin.post(
        "/api/v1/namespaces/default/events", {**old, "metadata": {"name": "w"}, "involvedObject": {"namespace": "x"}}
    )
    assert wrong.status == 422
    table = kubectl("get", "componentstatuses")
    assert all(name in table for name in ("etcd-0", "scheduler", "controller-manager"))


async def test_tokens_are_for_the_audiences_of_this_api(busy: ServerProcess, admin: Api) -> None:
    space = "/api/v1/namespaces/default"
    await admin.post(f"{space}/serviceaccounts", {"metadata": {"name": "robot"}})
    kept = {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "robot"}}
    await admin.post(f"{space}/secrets", {"metadata": kept, "type": "kubernetes.io/service-account-token"})

    async def ask(**spec: Any) -> tuple[list[str], str]:
        made = await admin.post(f"{space}/serviceaccounts/robot/token", {"spec": spec})
        assert made.status == 201, made.raw
        return made.json["spec"]["audiences"], made.json["status"]["token"]

    async def review(token: str, *audiences: str) -> Any:
        spec = {"token": token, "audiences": list(audiences)}
        return (await admin.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})).json["status"]

    both = ["busy", "https://busy.example.com"]
    audiences, token = await ask()
    assert audiences == both
    assert (await review(token))["audiences"] == both
    _, one = await ask(audiences=["busy", "vault"])
    assert (await review(one))["audiences"] == ["busy"]
    _, elsewhere = await ask(audiences=["https://kubernetes.default.svc.cluster.local"])
    assert not (await review(elsewhere)).get("authenticated")
    # What a Secret keeps for years is for this API, whatever its names become.
    secret = {"apiVersion": "v1", "kind": "Secret", "name": "kept"}
    _, forever = await ask(boundObjectRef=secret)
    assert "aud" not in jwt.decode(forever, options={"verify_signature": False})
    for known, status in ((token, 200), (one, 200), (forever, 200), (elsewhere, 401)):
        async with Api(busy.kubeconfig, token=known) as robot:
            assert (await robot.get("/version")).status == status


async def test_a_server_tells_of_its_version_and_its_flags(busy: ServerProcess, admin: Api) -> None:
    kubectl = Kubectl(kubectls.current(), busy.kubeconfig)
    assert "Emulation version: 1.36\n" in kubectl("get", "--raw", "/statusz")
    told = kubectl("get", "--raw", "/flagz").splitlines()
    assert {"event-ttl=90s", "controllers=false", "tls-san=[]", "bind-address=127.0.0.1"} <= set(told)
    exact = "application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz"
    flags = yaml.safe_load((await admin.get("/flagz", Accept=exact)).raw)
    assert flags["flags"]["secure-port"] == str(busy.port)
    assert (await admin.get("/flagz", Accept="application/json")).status == 406
    assert {"/statusz", "/flagz"} <= set((await admin.get("/")).json["paths"])


async def test_health_checks_one_by_one(busy: ServerProcess, admin: Api) -> None:
    verbose = (await admin.get("/readyz?verbose&exclude=etcd&exclude=nothing")).raw.decode().splitlines()
    assert verbose[0] == "[+]ping ok"
    assert "[+]etcd excluded: ok" in verbose
    assert "[+]informer-sync ok" in verbose
    assert "[+]poststarthook/apiservice-discovery-controller ok" in verbose
    assert "[+]shutdown ok" in verbose
    assert 'warn: some health checks cannot be excluded: no matches for "nothing"' in verbose
    assert verbose[-1] == "readyz check passed"
    hooks = [line.removeprefix("[+]").removesuffix(" ok") for line in verbose if "poststarthook" in line]
    assert len(hooks) == 27
    for hook in (
        "rbac/bootstrap-roles",
        "priority-and-fairness-filter",
        "start-kube-apiserver-identity-lease-controller",
    ):
        assert f"poststarthook/{hook}" in hooks
        assert (await admin.get(f"/readyz/poststarthook/{hook}")).raw == b"ok"
    assert (await admin.get("/livez/etcd")).raw == b"ok"
    assert (await admin.get("/livez/shutdown")).status == 404
    assert {"/livez/poststarthook/rbac/bootstrap-roles", "/readyz/shutdown"} <= set(
        (await admin.get("/")).json["paths"]
    )
    kubectl = Kubectl(kubectls.current(), busy.kubeconfig)
    assert "livez check passed" in kubectl("get", "--raw", "/livez?verbose")


async def test_a_server_shows_itself_by_a_lease(busy: ServerProcess, admin: Api) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    chosen = f"{path}?labelSelector=apiserver.kubernetes.io/identity%3Dkube-apiserver"
    async with asyncio.timeout(PATIENCE):
        while not (found := (await admin.get(chosen)).json["items"]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    [lease] = found
    assert lease["metadata"]["name"] == server_identity()
    assert lease["spec"]["holderIdentity"].startswith(f"{server_identity()}_")


async def test_an_orderly_end_answers_and_logs_what_was_asked(tmp_path: Path) -> None:
    for seconds in (4, 30):  # a machine that stands still for longer comes after the end
        (home := tmp_path / str(seconds)).mkdir()
        try:
            await _ends_orderly(home, seconds)
            return
        except aiohttp.ClientConnectionError:
            if seconds == 30:
                raise


async def _ends_orderly(tmp_path: Path, seconds: int) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}")
    server = ServerProcess(
        tmp_path,
        "--no-controllers",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={tmp_path / 'audit.log'}",
        f"--shutdown-delay-duration={seconds}s",
    )
    try:
        await asyncio.to_thread(server.start)
        async with Api(server.kubeconfig) as api:
            assert (await api.get("/readyz")).status == 200
            assert server.process is not None
            server.process.terminate()
            async with asyncio.timeout(PATIENCE):
                while (ready := await api.get("/readyz?verbose")).status == 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.02)
            assert ready.status == 500
            assert b"[-]shutdown failed" in ready.raw
            assert (await api.get("/livez")).status == 200
            last = await api.get("/api/v1/namespaces/default")
            assert last.status == 200
        # Not told again: what comes when its event loop has ended kills it.
        assert server.ended() == 0
    finally:
        if server.process is not None:
            server.kill()
    assert logged(server, auditID=last.headers["Audit-Id"], stage="ResponseComplete")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--audit-policy-file={file}"], "--audit-policy-file needs --audit-log-path"),
        (["--audit-policy-file={file}", "--audit-log-path=-"], "rules[0].level: Unsupported value"),
        (["--request-timeout=long"], "is not a duration like 60s or 1h30m"),
        (["--max-requests-inflight=0", "--max-mutating-requests-inflight=0"], "cannot both be 0"),
    ],
)
def test_wrong_flags_are_explained(tmp_path: Path, flags: list[str], said: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Everything}]}")
    server = ServerProcess(tmp_path, *(flag.format(file=file) for flag in flags))
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (server.directory / "data" / "etcd").exists()
