"""Bearer tokens: what is bound, expires and was tampered with; who one is, and what that says about one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac as codes
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.api.security.authority import client_tls
from tests.api.security.conftest import Connect, as_user, grant, token_of
from tests.api.security.raw import exchange, statuses
from tests.api.server.api import Answer, Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

ISSUER = "https://kubernetes.default.svc.cluster.local"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


async def who(client: Api, **headers: str) -> Any:
    answer = await client.post(SELF, {}, **headers)
    assert answer.status == 201, answer.raw
    return answer.json["status"]["userInfo"]


async def review(api: Api, token: str, *audiences: str) -> Any:
    """The status of a TokenReview."""
    spec = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
    answer = await api.post(REVIEWS, {"spec": spec})
    assert answer.status == 201, answer.raw
    return answer.json["status"]


def signing_key(server: ServerProcess) -> bytes:
    return (server.directory / "data" / "pki" / "sa.key").read_bytes()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})


def _segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_tokens_that_were_tampered_with(server: ServerProcess, api: Api, space: str, connect: Connect) -> None:
    token = await token_of(api, space)
    header, claims = parts(token)
    assert header["alg"] == "RS256"
    kid = header["kid"]
    key, public = signing_key(server), (server.directory / "data" / "pki" / "sa.pub").read_bytes()
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    brought = jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    head, body, signature = token.split(".")

    def signed(changes: dict[str, Any], *, without: str = "", headers: dict[str, Any] | None = None) -> str:
        made = {name: value for name, value in {**claims, **changes}.items() if name != without}
        return jwt.encode(made, key, algorithm="RS256", headers=headers or {"kid": kid})

    now = int(time.time())
    hmac = _segment({"alg": "HS256", "kid": kid}) + "." + body
    code = base64.urlsafe_b64encode(codes.new(public, hmac.encode(), hashlib.sha256).digest()).decode().rstrip("=")
    bad = {
        "no algorithm": f"{_segment({'alg': 'none', 'kid': kid})}.{body}.",
        "no algorithm, shouted": f"{_segment({'alg': 'NONE', 'kid': kid})}.{body}.{signature}",
        "the public key as a secret": f"{hmac}.{code}",
        "no signature": f"{head}.{body}.",
        "half a signature": f"{head}.{body}.{signature[:40]}",
        "another's claims": f"{head}.{_segment({**claims, 'sub': 'system:serviceaccount:kube-system:x'})}.{signature}",
        "another key": jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": kid}),
        "a key it brings along": jwt.encode(claims, stranger, algorithm="RS256", headers={"jwk": brought}),
        "an unknown key": signed({}, headers={"kid": "another"}),
        "a key that is a path": signed({}, headers={"kid": "../../sa.pub"}),
        "another algorithm": jwt.encode(claims, key, algorithm="RS512", headers={"kid": kid}),
        "what nobody understands": signed({}, headers={"kid": kid, "crit": ["exp2"], "exp2": 1}),
        "expired": signed({"exp": now - 5, "nbf": now - 700, "iat": now - 700}),
        "not yet valid": signed({"nbf": now + 600}),
        "without end": signed({}, without="exp"),
        "an end that is no number": signed({"exp": "never"}),
        "another issuer": signed({"iss": "https://example.com"}),
        "no issuer": signed({}, without="iss"),
        "another audience": signed({"aud": ["https://example.com"]}),
        "no audience": signed({}, without="aud"),
        "no subject": signed({}, without="sub"),
        "a subject of another name": signed({"sub": f"system:serviceaccount:{space}:other"}),
        "a subject that is a master": signed({"sub": "system:masters"}),
        "no account": signed({"kubernetes.io": {}}),
        "claims that are none": signed({"kubernetes.io": "x"}),
        "an account of another uid": signed(
            {"kubernetes.io": {**claims["kubernetes.io"], "serviceaccount": {"name": "default", "uid": "x"}}}
        ),
        "words": "not.a.token",
        "dots": "..",
        "one letter": "x",
        "very long": "x" * 6000,
        "encoded twice": base64.b64encode(token.encode()).decode(),
        "deep": _segment([[[[]]]]) + "." + body + "." + signature,
    }
    client = await connect()
    for what, one in bad.items():
        answer = await client.post(SELF, {}, Authorization=f"Bearer {one}")
        assert answer.failure[:2] == (401, "Unauthorized"), (what, answer.raw)
        found = await review(api, one)
        assert not found.get("authenticated"), what
    assert (await who(client, Authorization=f"Bearer {token}"))["username"] == f"system:serviceaccount:{space}:default"
    # What is signed with the right key and right in all claims is believed, wherever it comes from.
    assert (await who(client, Authorization=f"Bearer {signed({})}"))["uid"]
    # Whose key is not named may be signed with any of the server's (upstream's StaticPublicKeysGetter).
    unnamed = jwt.encode(claims, key, algorithm="RS256")
    assert (await who(client, Authorization=f"Bearer {unnamed}"))["uid"]
    nobodys = jwt.encode(claims, stranger, algorithm="RS256")
    assert (await client.post(SELF, {}, Authorization=f"Bearer {nobodys}")).failure[0] == 401


async def test_where_a_token_is_looked_for(server: ServerProcess, api: Api, space: str, anonymous: Api) -> None:
    token = await token_of(api, space)
    for query in (f"access_token={token}", f"token={token}", f"authorization=Bearer%20{token}"):
        assert (await anonymous.get(f"/api?{query}")).status == 403
    for value, code in ((f"bearer {token}", 200), (f"BEARER   {token}", 200), (f"Basic {token}", 403)):
        assert (await anonymous.get("/api", Authorization=value)).status == code, value
    for value in ("Bearer", "Bearer ", "", token):  # not a bearer token at all: nobody
        assert (await anonymous.get("/api", Authorization=value)).status == 403, value
    # Browsers cannot set headers on WebSockets; the token comes as a subprotocol and goes no further.
    protocol = "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    path = f"/api/v1/namespaces/{space}/pods/none/exec?command=x"
    for offered, code in ((f"v5.channel.k8s.io, {protocol}", b"system:serviceaccount"), (protocol, b"Unauthorized")):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        raw = await exchange_until_answered(server.port, f"{head}Sec-WebSocket-Protocol: {offered}\r\n\r\n".encode())
        assert code in raw, raw


async def exchange_until_answered(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls())
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        found = await reader.read(4096)
    writer.close()
    return found


async def test_tokens_end_with_what_they_are_bound_to(api: Api, space: str, connect: Connect) -> None:
    client = await connect()
    root = f"/api/v1/namespaces/{space}"

    async def state(token: str) -> int:
        return (await client.post(SELF, {}, Authorization=f"Bearer {token}")).status

    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert (await api.post(f"{root}/pods", pod)).status == 201
    assert (await api.post(f"{root}/secrets", {"metadata": {"name": "s"}})).status == 201
    node = f"node-{space}"
    assert (await api.post("/api/v1/nodes", {"metadata": {"name": node}})).status == 201
    bound = {}
    for kind, name in (("Pod", "p"), ("Secret", "s"), ("Node", node)):
        reference = {"kind": kind, "apiVersion": "v1", "name": name}
        bound[kind] = await token_of(api, space, boundObjectRef=reference)
        assert await state(bound[kind]) == 201
    extra = (await who(client, Authorization=f"Bearer {bound['Pod']}"))["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    for kind, path in (
        ("Pod", f"{root}/pods/p?gracePeriodSeconds=0"),
        ("Secret", f"{root}/secrets/s"),
        ("Node", f"/api/v1/nodes/{node}"),
    ):
        assert (await api.delete(path)).status == 200
        assert await state(bound[kind]) == 401, kind
    # The same names again are not the same objects.
    assert (await api.post(f"{root}/pods", pod)).status == 201
    assert await state(bound["Pod"]) == 401
    free = await token_of(api, space)
    assert await state(free) == 201
    assert (await api.delete(f"{root}/serviceaccounts/default")).status == 200
    assert await state(free) == 401
    assert (await api.post(f"{root}/serviceaccounts", {"metadata": {"name": "default"}})).status == 201
    assert await state(free) == 401


async def test_what_can_be_asked_of_a_token(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/serviceaccounts/default/token"

    async def ask(**spec: Any) -> Answer:
        return await api.post(path, {"spec": spec})

    default = (await ask()).json
    assert default["kind"] == "TokenRequest"
    _, claims = parts(default["status"]["token"])
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["aud"] == [ISSUER]
    assert claims["iss"] == ISSUER
    assert claims["sub"] == f"system:serviceaccount:{space}:default"
    assert default["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3600}
    _, claims = parts((await ask(expirationSeconds=600, audiences=["a", "b"])).json["status"]["token"])
    assert (claims["exp"] - claims["iat"], claims["aud"]) == (600, ["a", "b"])
    for seconds in (599, 0, -1, (1 << 32) + 1):
        answer = await ask(expirationSeconds=seconds)
        assert answer.failure[:2] == (422, "Invalid"), seconds
        assert "spec.expirationSeconds" in answer.failure[2]
    assert (await ask(boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "none"})).failure[0] == 404
    assert (await ask(boundObjectRef={"kind": "Service", "apiVersion": "v1", "name": "x"})).failure[0] == 400
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    uid = (await api.post(f"/api/v1/namespaces/{space}/pods", pod)).json["metadata"]["uid"]
    wrong = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "another"}
    assert (await ask(boundObjectRef=wrong)).failure[:2] == (409, "Conflict")
    assert (await ask(boundObjectRef={**wrong, "uid": uid})).status == 201
    assert (await api.post(path.replace("default/token", "none/token"), {"spec": {}})).failure[0] == 404
    assert (await api.post(f"{path}?dryRun=All", {"spec": {}})).status in (200, 201)


async def test_token_reviews(api: Api, space: str) -> None:
    token = await token_of(api, space, audiences=["vault", ISSUER])
    found = await review(api, token)
    assert found["authenticated"]
    assert found["user"]["username"] == f"system:serviceaccount:{space}:default"
    assert found["user"]["groups"] == [
        "system:serviceaccounts",
        f"system:serviceaccounts:{space}",
        "system:authenticated",
    ]
    assert found["audiences"] == [ISSUER]
    assert (await review(api, token, "vault", "other"))["audiences"] == ["vault"]
    other = await review(api, token, "other")
    assert not other.get("authenticated")
    assert other["error"]
    only = await token_of(api, space, audiences=["vault"])
    assert not (await review(api, only)).get("authenticated")
    assert (await review(api, only, "vault"))["authenticated"]
    steve = await review(api, "static-secret")
    assert steve["user"] == {"username": "steve", "uid": "uid-7", "groups": ["crew", "ops", "system:authenticated"]}
    assert (await review(api, "static-secret", ISSUER))["audiences"] == [ISSUER]
    assert not (await review(api, "static-secret", "vault")).get("authenticated")
    assert (await api.post(REVIEWS, {"spec": {}})).failure[0] in (400, 422)


async def test_keys_are_published(api: Api, space: str, anonymous: Api) -> None:
    """A token can be verified with nothing but what discovery says."""
    token = await token_of(api, space)
    discovery = (await api.get("/.well-known/openid-configuration")).json
    assert discovery["issuer"] == ISSUER
    assert discovery["id_token_signing_alg_values_supported"] == ["RS256"]
    answer = await api.get("/openid/v1/jwks")
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    assert discovery["jwks_uri"].endswith("/openid/v1/jwks")
    keys = jwt.PyJWKSet.from_dict(answer.json)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key.key, algorithms=["RS256"], audience=ISSUER, issuer=ISSUER)["sub"]
    assert "d" not in answer.json["keys"][0]


async def test_bootstrap_tokens(api: Api, connect: Connect) -> None:
    path = "/api/v1/namespaces/kube-system/secrets"

    def secret(token_id: str, **more: str) -> dict[str, Any]:
        data = {
            "token-id": token_id,
            "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true",
            **{key.replace("_", "-"): value for key, value in more.items()},
        }
        metadata = {"name": f"bootstrap-token-{token_id}"}
        return {"metadata": metadata, "type": "bootstrap.kubernetes.io/token", "stringData": data}

    client = await connect()
    cases = {
        "aaaaa1": (secret("aaaaa1", auth_extra_groups="system:bootstrappers:crew"), True),
        "aaaaa2": (secret("aaaaa2", expiration="2020-01-01T00:00:00Z"), False),
        "aaaaa3": (secret("aaaaa3", usage_bootstrap_authentication="false"), False),
        "aaaaa4": (secret("aaaaa4", auth_extra_groups="system:masters"), False),
        "aaaaa5": ({**secret("aaaaa5"), "type": "Opaque"}, False),
    }
    for token_id, (body, works) in cases.items():
        assert (await api.post(path, body)).status == 201
        answer = await client.post(SELF, {}, Authorization=f"Bearer {token_id}.0123456789abcdef")
        assert (answer.status == 201) == works, token_id
        wrong = await client.post(SELF, {}, Authorization=f"Bearer {token_id}.0123456789abcdee")
        assert wrong.status == 401
    me = await who(client, Authorization="Bearer aaaaa1.0123456789abcdef")
    assert me["username"] == "system:bootstrap:aaaaa1"
    assert set(me["groups"]) == {"system:bootstrappers", "system:bootstrappers:crew", "system:authenticated"}
    assert (await api.delete(f"{path}/bootstrap-token-aaaaa1")).status == 200
    assert (await client.post(SELF, {}, Authorization="Bearer aaaaa1.0123456789abcdef")).status == 401


async def test_impersonation(api: Api, connect: Connect, space: str) -> None:
    me = await who(
        api,
        Impersonate_User="anna",
        Impersonate_Group="crew",
        Impersonate_Uid="7",
        Impersonate_Extra_Scopes="view",
        Impersonate_Extra_Acme_com_2fProject="x",
    )
    assert me["username"] == "anna"
    assert me["uid"] == "7"
    assert me["groups"] == ["crew", "system:authenticated"]
    assert me["extra"]["scopes"] == ["view"]
    account = await who(api, Impersonate_User=f"system:serviceaccount:{space}:default")
    assert account["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated"]
    refusal = (await api.post(SELF, {}, Impersonate_User="system:anonymous")).failure
    assert refusal[2].startswith(
        'selfsubjectreviews.authentication.k8s.io is forbidden: User "system:anonymous" cannot'
    )
    assert (await api.post(SELF, {}, Impersonate_Group="crew")).failure[0] == 400
    # Every part needs a right of its own.
    rules = [
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["anna"]},
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"], "resourceNames": ["crew"]},
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["userextras/scopes"],
            "verbs": ["impersonate"],
            "resourceNames": ["view"],
        },
    ]
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    assert (await api.post(roles, {"metadata": {"name": f"mimic-{space}"}, "rules": rules})).status == 201
    await grant(api, f"mimic-{space}", as_user("mimi"))
    mimi = await connect("mimi")
    assert (await who(mimi, Impersonate_User="anna", Impersonate_Group="crew"))["username"] == "anna"
    assert (await who(mimi, Impersonate_User="anna", Impersonate_Extra_Scopes="view"))["username"] == "anna"
    refused: list[dict[str, str]] = [
        {"Impersonate_User": "bert"},
        {"Impersonate_User": "anna", "Impersonate_Group": "system:masters"},
        {"Impersonate_User": "anna", "Impersonate_Uid": "7"},
        {"Impersonate_User": "anna", "Impersonate_Extra_Scopes": "admin"},
        {"Impersonate_User": "anna", "Impersonate_Extra_Other": "view"},
        {"Impersonate_User": f"system:serviceaccount:{space}:default"},
        {"Impersonate_User": "system:node:x", "Impersonate_Group": "system:nodes"},
    ]
    for headers in refused:
        answer = await mimi.post(SELF, {}, **headers)
        assert answer.failure[:2] == (403, "Forbidden"), headers
        assert "cannot impersonate resource" in answer.failure[2]


class _Closed(ServerProcess):
    """Whether it is ready cannot be asked without credentials."""

    def _ready(self) -> bool:
        return "event='serving'" in self.log.read_text() and self.kubeconfig.exists()


async def test_anonymous_access_can_be_off(tmp_path: Path) -> None:
    process = _Closed(tmp_path, "--no-controllers", "--anonymous-auth=false")
    process.start()
    try:
        async with Api(process.kubeconfig, anonymous=True) as nobody, Api(process.kubeconfig) as api:
            assert (await nobody.get("/version")).failure[:2] == (401, "Unauthorized")
            assert (await nobody.get("/api/v1/pods")).failure[:2] == (401, "Unauthorized")
            assert (await api.get("/version")).status == 200
    finally:
        process.stop()


async def test_a_token_is_no_part_of_the_log(server: ServerProcess, api: Api, space: str, connect: Connect) -> None:
    token = await token_of(api, space)
    client = await connect()
    await client.get("/api/v1/secrets", Authorization=f"Bearer {token}")
    await client.get(f"/api/v1/secrets?access_token={token}")
    assert statuses(
        await exchange(server.port, b"GET /\x00 HTTP/1.1\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n")
    )
    assert token not in server.log.read_text()


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_probes_with_a_bad_token(anonymous: Api, path: str) -> None:
    """Even a probe tells who it is, when it says so."""
    assert (await anonymous.get(path, Authorization="Bearer nonsense")).status == 401
