"""Certificates, token files, bootstrap tokens and service accounts."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agents.node.join import JoinToken
from orca.api.builtin import NODES, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.errors import ApiError
from orca.auth import Authenticator, Credentials, StaticTokens
from orca.auth.bootstrap_tokens import BootstrapTokens, join_string, new_token, token_secret
from orca.auth.pki import ensure_pki, issue
from orca.auth.service_accounts import Keys, ServiceAccountTokens, TokenIssuer
from tests.unit.auth.fakes import FixedClock, Reader, made


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["10.96.0.1"], clock=FixedClock())


@pytest.fixture
def clock():
    return FixedClock()


def der(pem):
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_certificates_carry_name_and_groups(pki, clock):
    pem, _ = issue(pki.ca, "system:node:host-1", "system:nodes", now=clock.now())
    user = Authenticator(clock=clock).authenticate(Credentials(der(pem)))
    assert user.name == "system:node:host-1"
    assert user.groups == ("system:nodes", "system:authenticated")


def test_a_connection_does_not_outlive_its_certificate(pki, clock):
    pem, _ = issue(pki.ca, "a", "b", now=clock.now())
    authenticator = Authenticator(clock=clock)
    authenticator.authenticate(Credentials(der(pem)))
    clock.time += timedelta(days=400)
    with pytest.raises(ApiError) as caught:
        authenticator.authenticate(Credentials(der(pem)))
    assert caught.value.code == 401


def test_nobody_is_anonymous_unless_that_is_off():
    assert Authenticator().authenticate(Credentials()).groups == ("system:unauthenticated",)
    with pytest.raises(ApiError):
        Authenticator(anonymous=False).authenticate(Credentials())


def test_a_bad_token_is_not_anonymous():
    with pytest.raises(ApiError) as caught:
        Authenticator().authenticate(Credentials(bearer="nonsense"))
    assert caught.value.code == 401


def test_token_file(tmp_path):
    file = tmp_path / "tokens.csv"
    file.write_text('secret1,anna,1,"ops,dev"\nsecret2,bert,2\n')
    authenticator = Authenticator([StaticTokens.from_file(file)])
    anna = authenticator.authenticate(Credentials(bearer="secret1"))
    assert (anna.name, anna.uid, anna.groups) == ("anna", "1", ("ops", "dev", "system:authenticated"))
    assert authenticator.authenticate(Credentials(bearer="secret2")).groups == ("system:authenticated",)


def test_bootstrap_tokens_expire_and_can_be_revoked(clock):
    reader = Reader()
    token_id, secret = new_token()
    made_secret = token_secret(token_id, secret, expires=clock.now() + timedelta(hours=1))
    reader.put(SECRETS, made_secret)
    tokens = BootstrapTokens(reader, clock)
    user = tokens.identify(f"{token_id}.{secret}")
    assert user.name == f"system:bootstrap:{token_id}"
    assert "system:bootstrappers:orca:default-node-token" in user.groups
    assert tokens.identify(f"{token_id}.{'x' * 16}") is None
    clock.time += timedelta(hours=2)
    assert tokens.identify(f"{token_id}.{secret}") is None


def test_join_strings_are_what_agents_take():
    token = JoinToken.parse(join_string("abcdef", "0123456789abcdef", "a" * 64))
    assert (token.bearer, token.ca_hash) == ("abcdef.0123456789abcdef", "a" * 64)


@pytest.fixture
def world(pki, clock):
    reader = Reader()
    account = reader.put(SERVICEACCOUNTS, made("v1", "ServiceAccount", "app", "d"))
    reader.put(NODES, made("v1", "Node", "n"))
    reader.put(PODS, made("v1", "Pod", "p", "d", spec={"serviceAccountName": "app", "nodeName": "n"}))
    keys = Keys.load(pki.service_account_key)
    return reader, account, TokenIssuer(keys, reader, clock), ServiceAccountTokens(keys, reader, clock)


def test_a_token_for_a_pod_names_it_and_dies_with_it(world, clock):
    reader, account, issuer, tokens = world
    body = {"spec": {"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "uid-p"}}}
    answer = issuer.request(account, body)
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:00Z"
    user = tokens.identify(answer["status"]["token"])
    assert user.name == "system:serviceaccount:d:app"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:d")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert user.extra["authentication.kubernetes.io/node-name"] == ("n",)
    reader.drop(PODS, "d", "p")
    assert tokens.identify(answer["status"]["token"]) is None


def test_a_secrets_token_is_told_of_and_can_be_made_invalid(world):
    reader, account, issuer, tokens = world
    kept = {**made("v1", "Secret", "s", "d"), "type": "kubernetes.io/service-account-token"}
    reader.put(SECRETS, kept)
    body = {"spec": {"boundObjectRef": {"kind": "Secret", "name": "s", "uid": "uid-s"}}}
    token = issuer.request(account, body)["status"]["token"]
    used = []
    tokens.used = used.append
    assert tokens.identify(token)
    invalid = {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}
    reader.put(SECRETS, {**kept, "metadata": {**kept["metadata"], "labels": invalid}})
    assert tokens.identify(token) is None
    assert [one["metadata"]["name"] for one in used] == ["s", "s"]


def test_tokens_expire(world, clock):
    _, account, issuer, tokens = world
    token = issuer.request(account, {"spec": {"expirationSeconds": 600}})["status"]["token"]
    assert tokens.identify(token)
    clock.time += timedelta(seconds=600)
    assert tokens.identify(token) is None


def test_tokens_are_for_their_audience(world):
    _, account, issuer, tokens = world
    token = issuer.request(account, {"spec": {"audiences": ["vault"]}})["status"]["token"]
    assert tokens.identify(token) is None
    assert tokens.review(token, ["vault", "x"])[1] == ["vault"]


def test_a_recreated_account_is_another(world):
    reader, account, issuer, tokens = world
    token = issuer.request(account, {})["status"]["token"]
    reader.put(SERVICEACCOUNTS, {**account, "metadata": {**account["metadata"], "uid": "new"}})
    assert tokens.identify(token) is None


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"expirationSeconds": 599}, 422),
        ({"boundObjectRef": {"kind": "Pod", "name": "none"}}, 404),
        ({"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "other"}}, 409),
        ({"boundObjectRef": {"kind": "Job", "name": "p"}}, 400),
    ],
)
def test_token_requests_that_are_refused(world, spec, code):
    _, account, issuer, _ = world
    with pytest.raises(ApiError) as caught:
        issuer.request(account, {"spec": spec})
    assert caught.value.code == code


def test_forged_tokens(world, pki, tmp_path, clock):
    reader, account, _, tokens = world
    other = ensure_pki(tmp_path, [], clock=clock)
    forged = TokenIssuer(Keys.load(other.service_account_key), reader, clock).request(account, {})["status"]["token"]
    assert tokens.identify(forged) is None
    assert tokens.identify("a.b.c") is None
