"""The audit log of a real server, by its policy."""

from __future__ import annotations

from tests.api.security.raw import exchange, statuses
from tests.api.server.api import Api
from tests.api.server.audited import logged
from tests.api.server.process import ServerProcess
from tests.support.kubectl import eventually


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


async def test_a_list_that_leaves_in_pieces_is_logged_whole(busy: ServerProcess, admin: Api) -> None:
    await admin.post("/api/v1/namespaces", {"metadata": {"name": "long"}})
    for number in range(5):
        body = {"metadata": {"name": f"long-{number}"}, "data": {"x": "y" * 100_000}}
        await admin.post("/api/v1/namespaces/long/configmaps", body)
    path = "/api/v1/namespaces/long/configmaps"
    for query, headers in (
        ("", {}),
        ("", {"Accept-Encoding": "gzip"}),
        ("", {"Accept": "application/yaml"}),
        ("?pretty=true", {}),
    ):
        listed = await admin.get(path + query, **headers)
        audit_id = listed.headers["Audit-Id"]
        event = eventually(lambda one=audit_id: logged(busy, auditID=one, stage="ResponseComplete"))[0]
        items = event["responseObject"]["items"]
        assert [item["data"]["x"] for item in items] == ["y" * 100_000] * 5
        assert "managedFields" not in items[0]["metadata"]
    listed = await admin.get(f"{path}?includeObject=Object", Accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    assert "managedFields" in listed.json["rows"][0]["object"]["metadata"]
    audit_id = listed.headers["Audit-Id"]
    event = eventually(lambda: logged(busy, auditID=audit_id, stage="ResponseComplete"))[0]
    assert [row["object"]["data"]["x"] for row in event["responseObject"]["rows"]] == ["y" * 100_000] * 5
    assert "managedFields" not in event["responseObject"]["rows"][0]["object"]["metadata"]
    deleted = await admin.delete(path)
    assert len(deleted.json["items"]) == 5
    assert deleted.headers["X-Kubernetes-PF-FlowSchema-UID"] == listed.headers["X-Kubernetes-PF-FlowSchema-UID"]


async def test_no_refusal_tells_what_is_in_a_secret(busy: ServerProcess, admin: Api) -> None:
    path = "/api/v1/namespaces/default/secrets"
    await admin.post(path, {"metadata": {"name": "untold"}, "stringData": {"p": "hunter2"}})
    told = "aHVudGVyMg"  # hunter2, as it is stored
    for kind, patch in (
        ("merge", {"data": {"q": 1}}),
        ("merge", {"dataa": {"q": "1"}}),
        ("json", [{"op": "add", "path": "/data/q", "value": 1}]),
        ("json", [{"op": "copy", "from": "/data", "path": "/unknown"}]),
        ("json", [{"op": "copy", "from": "/data/p", "path": "/kind"}]),
        ("json", [{"op": "copy", "from": "/data/p", "path": "/metadata/creationTimestamp"}]),
        ("json", [{"op": "test", "path": "/data/p", "value": "x"}]),
        ("strategic", {"data": {"q": {"own": "aHVudGVyMg"}}}),
        ("apply", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "untold"}, "data": "aHVudGVyMg=="}),
    ):
        refused = await admin.patch(f"{path}/untold?fieldManager=me&fieldValidation=Strict", patch, kind)
        assert refused.status >= 400, kind
        assert told not in refused.raw.decode(), kind
        audit_id = refused.headers["Audit-Id"]
        event = eventually(lambda audit_id=audit_id: logged(busy, auditID=audit_id, stage="ResponseComplete"))[0]
        assert event["responseStatus"]["code"] == refused.status
        assert told not in str(event), kind
