"""Running a server: priority and fairness, deadlines, the audit log, metrics, health and the end, over real HTTPS."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import jwt
import pytest
import yaml

from orca.server.identifiers import server_identity
from tests.api.security.raw import exchange, statuses
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
  - level: None
    users: [quiet]
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/api*", "/openapi*", "/version"]
  - level: Metadata
    resources: [{group: "", resources: [secrets]}]
    omitStages: [RequestReceived]
  - level: RequestResponse
    resources: [{group: "", resources: [configmaps]}]
  - level: Request
    resources: [{group: "", resources: [serviceaccounts, pods/exec]}]
    omitStages: [RequestReceived]
  - level: None
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with an audit log, static tokens and short deadlines for those who ask for them."""
    directory = tmp_path_factory.mktemp("operation")
    tokens, policy = directory / "tokens", directory / "policy.yaml"
    tokens.write_text('noisy,noisy,1,"noise"\nnode,system:node:n1,2,"system:nodes"\nbob,bob,3,""\nquiet,quiet,4,""\n')
    policy.write_text(POLICY)
    process = ServerProcess(
        directory,
        "--no-controllers",
        f"--token-auth-file={tokens}",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={directory / 'audit.log'}",
        "--event-ttl=90s",
        "--api-audiences=busy,https://busy.example.com",
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def admin(busy: ServerProcess) -> AsyncIterator[Api]:
    async with Api(busy.kubeconfig) as one:
        yield one


def logged(server: ServerProcess, **wanted: Any) -> list[dict[str, Any]]:
    """Audit events whose fields are as wanted; ``ref`` is compared with what it names of the objectRef."""
    found = []
    for line in (server.directory / "audit.log").read_text().splitlines():
        event = json.loads(line)
        reference = event.get("objectRef") or {}
        if all(
            reference.items() >= value.items() if key == "ref" else event.get(key) == value
            for key, value in wanted.items()
        ):
            found.append(event)
    return found


async def test_the_audit_log_says_who_did_what(busy: ServerProcess, admin: Api) -> None:
    made = await admin.post(
        "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "seen"}, "data": {"a": "b"}}, User_Agent="me/1"
    )
    audit_id = made.headers["Audit-Id"]
    stages = eventually(lambda: logged(busy, auditID=audit_id)[1:] and logged(busy, auditID=audit_id))
    received, complete = stages
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert received["kind"] == "Event"
    assert received["apiVersion"] == "audit.k8s.io/v1"
    assert "responseStatus" not in received
    assert complete["level"] == "RequestResponse"
    assert complete["verb"] == "create"
    assert complete["user"]["username"] == "kubernetes-admin"
    assert complete["userAgent"] == "me/1"
    assert complete["sourceIPs"] == ["127.0.0.1"]
    assert complete["objectRef"] == {
        "resource": "configmaps",
        "namespace": "default",
        "name": "seen",
        "apiVersion": "v1",
    }
    assert complete["responseStatus"]["code"] == 201
    assert complete["requestObject"]["data"] == {"a": "b"}
    assert complete["responseObject"]["metadata"]["uid"]
    assert "managedFields" not in complete["responseObject"]["metadata"]
    assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert complete["stageTimestamp"] >= complete["requestReceivedTimestamp"]


async def test_headers_that_are_no_utf8_are_logged(busy: ServerProcess, admin: Api) -> None:
    path = "/api/v1/namespaces/default/configmaps/no-utf8"
    head = f"DELETE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    head += b"User-Agent: a\xff/1\r\nX-Forwarded-For: b\xff\r\nAudit-ID: no-utf8\xff\r\n\r\n"
    assert statuses(await exchange(busy.port, head, admin.tls)) == [404]
    event = eventually(lambda: logged(busy, auditID="no-utf8\ufffd", stage="ResponseComplete"))[0]
    assert event["userAgent"] == "a\ufffd/1"
    assert event["sourceIPs"] == ["b\ufffd", "127.0.0.1"]


async def test_secrets_and_refusals_in_the_audit_log(busy: ServerProcess, admin: Api) -> None:
    await admin.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}, "stringData": {"p": "hunter2"}})
    async with Api(busy.kubeconfig, token="bob") as bob:
        refused = await bob.get("/api/v1/namespaces/default/secrets/s")
        assert refused.status == 403
    async with Api(busy.kubeconfig, token="nobody-knows") as stranger:
        assert (await stranger.get("/api/v1/namespaces/default/secrets/s")).status == 401
    event = eventually(lambda: logged(busy, verb="create", ref={"resource": "secrets"}))[0]
    assert event["level"] == "Metadata"
    assert "requestObject" not in event
    [event] = eventually(lambda: [e for e in logged(busy, ref={"name": "s"}) if e["user"].get("username") == "bob"])
    assert event["responseStatus"]["reason"] == "Forbidden"
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    [event] = eventually(lambda: [e for e in logged(busy, ref={"name": "s"}) if e["responseStatus"]["code"] == 401])
    assert event["user"] == {}
    assert event["stage"] == "ResponseStarted"
    assert event["responseStatus"]["message"] == "Authentication failed, attempted: bearer"
    assert "hunter2" not in (busy.directory / "audit.log").read_text()
    assert not logged(busy, requestURI="/version")


async def test_impersonation_lists_and_watches_in_the_audit_log(busy: ServerProcess, admin: Api) -> None:
    listed = await admin.get("/api/v1/namespaces/default/configmaps", Impersonate_User="eve")
    assert listed.status == 403
    event = eventually(lambda: logged(busy, auditID=listed.headers["Audit-Id"], stage="ResponseComplete"))[0]
    assert event["impersonatedUser"]["username"] == "eve"
    assert event["authenticationMetadata"] == {"impersonationConstraint": "impersonate:user-info"}
    assert event["user"]["username"] == "kubernetes-admin"
    listed = await admin.get("/api/v1/configmaps")
    event = eventually(lambda: logged(busy, auditID=listed.headers["Audit-Id"], stage="ResponseComplete"))[0]
    assert event["responseObject"]["kind"] == "ConfigMapList"
    watched = await admin.get("/api/v1/configmaps?watch=1&timeoutSeconds=1")
    assert watched.headers["X-Kubernetes-PF-FlowSchema-UID"]
    audit_id = watched.headers["Audit-Id"]
    stages = eventually(lambda: logged(busy, auditID=audit_id)[2:] and logged(busy, auditID=audit_id))
    assert [e["stage"] for e in stages] == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


async def test_streams_that_never_begin_are_logged_so(busy: ServerProcess, admin: Api) -> None:
    await admin.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "nowhere"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert (await admin.post("/api/v1/namespaces/default/pods", pod)).status == 201
    failed = await admin.get("/api/v1/namespaces/default/pods/nowhere/exec?command=x")
    assert failed.status == 400
    audit_id = failed.headers["Audit-Id"]
    events = eventually(lambda: logged(busy, auditID=audit_id)[1:] and logged(busy, auditID=audit_id))
    assert [(event["stage"], event["responseStatus"]["code"]) for event in events] == [
        ("ResponseStarted", 400),
        ("ResponseComplete", 400),
    ]


async def test_nobody_leaves_the_audit_log_as_somebody_else(busy: ServerProcess, admin: Api) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    quiet = await admin.get(path, Impersonate_User="quiet")  # whose own requests are not logged
    [received, complete] = eventually(
        lambda: logged(busy, auditID=quiet.headers["Audit-Id"])[1:] and logged(busy, auditID=quiet.headers["Audit-Id"])
    )
    assert "impersonatedUser" not in received  # they might not be allowed to
    assert complete["impersonatedUser"]["username"] == "quiet"
    async with Api(busy.kubeconfig, token="bob") as bob:
        refused = await bob.get(path, Impersonate_User="kubernetes-admin")
        assert refused.status == 403
        unclear = await bob.get(path, Impersonate_Group="system:masters")
        assert unclear.status == 400
    for answer in (refused, unclear):
        audit_id = answer.headers["Audit-Id"]
        event = eventually(lambda one=audit_id: logged(busy, auditID=one, stage="ResponseComplete"))[0]
        assert event["user"]["username"] == "bob"
        assert event["responseStatus"]["code"] == answer.status
        assert "impersonatedUser" not in event
    async with Api(busy.kubeconfig, token="quiet") as quiet_one:
        unseen = await quiet_one.get(path, Impersonate_User="bob")
        last = await admin.get(path)
    eventually(lambda: logged(busy, auditID=last.headers["Audit-Id"]))
    assert not logged(busy, auditID=unseen.headers["Audit-Id"])


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
        finally:
            noise.terminate()
            told = json.loads(noise.communicate(timeout=PATIENCE)[0])
    print(f"renewals of a lease beside it: median {median(took) * 1000:.0f} ms, lists: {told['seconds'] * 1000:.0f} ms")
    # Whatever the machine: who asks for little does not stand in the same line.
    assert median(took) < told["seconds"] / 3, (took, told)
    assert max(took) < max(8, told["seconds"] * 2), (took, told)


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
        began = time.monotonic()
        late = await admin.post("/api/v1/namespaces/default/configmaps?timeout=1s", {"metadata": {"name": "late"}})
        assert time.monotonic() - began < 20
        assert late.failure == (504, "Timeout", "Timeout: request did not complete within the allotted timeout")
    finally:
        _run(["kill", "-CONT", *etcd])
    eventually(lambda: Kubectl(kubectls.current(), busy.kubeconfig).try_("get", "cm", "-l", "a=b").code == 0)


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
        'authenticated_user_requests{username="other"}',
        'authorization_attempts_total{result="allowed"}',
        'apiserver_impersonation_attempts_total{decision="allowed",mode="user-info"}',
        'apiserver_impersonation_attempts_total{decision="denied",mode=""}',
        'apiserver_impersonation_attempts_duration_seconds_bucket{decision="denied",le="0.001",mode=""}',
        'apiserver_impersonation_authorization_attempts_total{decision="denied",mode="legacy"}',
        'apiserver_admission_step_admission_duration_seconds_summary_count{operation="CREATE",type="validate"}',
        'apiserver_admission_step_admission_duration_seconds_bucket{le="0.005",operation="CREATE",type="admit"}',
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
    policy = tmp_path / "policy.yaml"
    policy.write_text("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}")
    server = ServerProcess(
        tmp_path,
        "--no-controllers",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={tmp_path / 'audit.log'}",
        "--shutdown-delay-duration=4s",
    )
    server.start()
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
    assert logged(server, auditID=last.headers["Audit-Id"], stage="ResponseComplete")


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
