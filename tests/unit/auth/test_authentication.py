"""Certificates, token files, bootstrap tokens and service accounts."""

from base64 import b64encode
from datetime import timedelta

import jwt
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agents.node.join import JoinToken
from orca.api.builtin import NODES, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.errors import ApiError
from orca.auth import Authenticator, Credentials, StaticTokens
from orca.auth.account_keys import key_id_of, public_keys
from orca.auth.bootstrap_tokens import BootstrapTokens, join_string, new_token, token_secret
from orca.auth.pki import ensure_pki, issue
from orca.auth.service_accounts import Keys, ServiceAccountTokens
from orca.auth.token_requests import Lifetimes, TokenIssuer, Told
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


@pytest.mark.parametrize(("uids", "uid"), [((), ""), (("1042",), "1042"), (("1", "2"), None), ((" ",), " ")])
def test_certificates_may_carry_one_uid(clock, uids, uid):
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(x509.ObjectIdentifier("1.3.6.1.4.1.57683.2"), one) for one in uids]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ada"), *names])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(clock.now()).not_valid_after(clock.now() + timedelta(days=1))
    shown = Credentials(made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    if uid is None:
        with pytest.raises(ApiError):
            Authenticator(clock=clock).authenticate(shown)
    else:
        assert Authenticator(clock=clock).authenticate(shown).uid == uid


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
    assert tokens.notes(token)["authentication.k8s.io/legacy-token-manual-secret"] == "s"
    reader.put(SERVICEACCOUNTS, {**account, "secrets": [{"name": "s"}]})
    assert tokens.notes(token)["authentication.k8s.io/legacy-token-autogenerated-secret"] == "s"


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
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "apps/v1", "name": "p"}}, 400),
        ({"boundObjectRef": {}}, 400),
    ],
)
def test_token_requests_that_are_refused(world, spec, code):
    _, account, issuer, _ = world
    with pytest.raises(ApiError) as caught:
        issuer.request(account, {"spec": spec})
    assert caught.value.code == code


POD = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "uid-p"}


def test_the_tokens_of_pods_outlive_their_time_and_are_told_of(world, clock):
    reader, account, issuer, tokens = world
    told = Told()
    answer = issuer.request(account, {"spec": {"boundObjectRef": POD, "expirationSeconds": 3607}}, told)
    token = answer["status"]["token"]
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:07Z"  # when kubelets want another one
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600
    assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607
    assert told.notes == {"authentication.kubernetes.io/issued-credential-id": f"JTI={claims['jti']}"}
    assert tokens.identify(token)
    assert tokens.notes(token) == {}
    tokens.count(token)
    clock.time += timedelta(hours=2)
    tokens.count(token)
    assert tokens.identify(token)
    [note] = tokens.notes(token).items()
    stale = "subject: system:serviceaccount:d:app, seconds after warning threshold: 3593"
    assert note == ("authentication.k8s.io/stale-token", stale)
    assert (tokens.counts.valid, tokens.counts.stale) == (1, 1)
    reader.drop(PODS, "d", "p")
    assert tokens.identify(token) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"boundObjectRef": POD, "expirationSeconds": 3600},
        {"boundObjectRef": POD, "expirationSeconds": 3607, "audiences": ["vault"]},
        {"expirationSeconds": 3607},
    ],
)
def test_other_tokens_do_not_outlive_their_time(world, spec):
    _, account, issuer, _ = world
    claims = jwt.decode(issuer.request(account, {"spec": spec})["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == spec["expirationSeconds"]
    assert "warnafter" not in claims["kubernetes.io"]


def test_how_long_tokens_may_live(world, clock):
    _, account, issuer, _ = world
    short = TokenIssuer(issuer.keys, issuer.reader, clock, Lifetimes(longest=7200, extended=False))
    told = Told()
    answer = short.request(account, {"spec": {"expirationSeconds": 9000}}, told)
    assert answer["spec"]["expirationSeconds"] == 7200
    assert told.warnings == ["requested expiration of 9000 seconds shortened to 7200 seconds"]
    answer = short.request(account, {"spec": {"boundObjectRef": POD, "expirationSeconds": 3607}})
    claims = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 3607


def test_a_token_request_says_which_account_it_means(world):
    _, account, issuer, _ = world
    with pytest.raises(ApiError, match=r"on TokenRequest.authentication.k8s.io \"app\": the UID in the token request"):
        issuer.request(account, {"metadata": {"uid": "another"}})
    meta = issuer.request(account, {"metadata": {"uid": account["metadata"]["uid"], "labels": {"a": "b"}}})["metadata"]
    assert (meta["name"], meta["namespace"], meta["uid"]) == ("app", "d", account["metadata"]["uid"])
    assert meta["labels"] == {"a": "b"}
    assert issuer.request(account, {})["metadata"]["uid"] == account["metadata"]["uid"]


def test_tokens_of_earlier_issuers_are_taken(world, pki, clock):
    reader, account, issuer, _ = world
    new, old = "https://new.example.com", issuer.keys.issuer
    both = Keys.load(pki.service_account_key, issuers=(new, old))
    tokens = ServiceAccountTokens(both, reader, clock)
    assert tokens.identify(issuer.request(account, {})["status"]["token"]), "made before, for whom it was from"
    mine = TokenIssuer(both, reader, clock).request(account, {})["status"]["token"]
    claims = jwt.decode(mine, options={"verify_signature": False})
    assert (claims["iss"], claims["aud"]) == (new, [new, old])
    assert tokens.identify(mine)
    assert tokens.review(mine, [old])[1] == [old]
    other = Keys.load(pki.service_account_key, issuers=(new,), audiences=(old,))
    assert ServiceAccountTokens(other, reader, clock).identify(issuer.request(account, {})["status"]["token"]) is None


def test_keys_of_further_files_verify(world, pki, clock, tmp_path):
    reader, account, issuer, tokens = world
    signed = issuer.request(account, {})["status"]["token"]
    claims = jwt.decode(signed, options={"verify_signature": False})
    earlier, curve = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())
    pem, public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    files = [tmp_path / "two.pem", tmp_path / "one.pem"]
    plain = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    files[0].write_bytes(
        b"# keys\n" + curve.private_bytes(pem, *plain) + earlier.public_key().public_bytes(pem, public)
    )
    files[1].write_bytes(pki.service_account_public.read_bytes())
    keys = Keys.load(pki.service_account_key, files)
    both = ServiceAccountTokens(keys, reader, clock)
    for key, algorithm in ((curve, "ES384"), (earlier, "RS256")):
        for headers in ({"kid": key_id_of(key.public_key())}, {}):
            token = jwt.encode(claims, key, algorithm, headers=headers)
            assert both.identify(token)
            assert tokens.identify(token) is None
        assert both.identify(jwt.encode(claims, key, algorithm, headers={"kid": keys.key_id})) is None
    assert both.identify(signed)
    shown = keys.jwks()["keys"]
    assert sorted((one["kty"], one["alg"]) for one in shown) == [("EC", "ES384"), ("RSA", "RS256"), ("RSA", "RS256")]
    assert not any("d" in one for one in shown), "no private part"
    assert keys.discovery("")["id_token_signing_alg_values_supported"] == ["RS256", "ES384"]
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ValueError, match="does not contain any valid RSA or ECDSA public keys"):
        Keys.load(pki.service_account_key, [tmp_path / "none.pem"])


@pytest.fixture
def kept(world):
    """A request for a token that a Secret keeps, as the controller asks for it."""
    reader, *_ = world
    reader.put(SECRETS, {**made("v1", "Secret", "s", "d"), "type": "kubernetes.io/service-account-token"})
    bound = {"kind": "Secret", "name": "s", "uid": "uid-s"}
    return {"audiences": [], "expirationSeconds": 1 << 32, "boundObjectRef": bound}


def test_what_a_secret_keeps_lives_as_long_as_the_secret(world, kept, clock):
    reader, account, issuer, _ = world
    short = TokenIssuer(issuer.keys, reader, clock, Lifetimes(longest=3600))

    def lives(spec, told):
        token = short.request(account, {"spec": spec}, told)["status"]["token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        return claims["exp"] - claims["iat"]

    told = Told()
    assert lives(kept, told) == 1 << 32
    assert told.warnings == []
    assert lives({**kept, "audiences": ["vault"]}, told) == 3600
    assert len(told.warnings) == 1
    reader.put(SECRETS, made("v1", "Secret", "s", "d"))
    assert lives(kept, told) == 3600, "of another type: nobody keeps a token in it"


def test_what_a_secret_keeps_is_taken_whatever_the_issuer_is_called_now(world, kept, pki, clock):
    reader, account, issuer, _ = world
    renamed = ServiceAccountTokens(Keys.load(pki.service_account_key, issuers=("https://new",)), reader, clock)

    def taken(spec):
        return renamed.identify(issuer.request(account, {"spec": spec})["status"]["token"])

    assert taken(kept)
    assert taken({**kept, "audiences": ["https://new"]}) is None
    assert taken({"audiences": ["https://new"]}) is None


def test_forged_tokens(world, pki, tmp_path, clock):
    reader, account, _, tokens = world
    other = ensure_pki(tmp_path, [], clock=clock)
    forged = TokenIssuer(Keys.load(other.service_account_key), reader, clock).request(account, {})["status"]["token"]
    assert tokens.identify(forged) is None
    assert tokens.identify("a.b.c") is None


def test_blocks_of_a_key_file_that_nobody_can_read_are_passed_over(tmp_path):
    algorithm = bytes.fromhex("301006072a8648ce3d020106052b81040006")  # an elliptic curve of 112 bits
    info = b"\x30" + bytes([len(algorithm) + 31]) + algorithm + b"\x03\x1d\x00" + bytes([4] * 28)
    text = "-----BEGIN PUBLIC KEY-----\n" + b64encode(info).decode() + "\n-----END PUBLIC KEY-----\n"
    file = tmp_path / "keys.pem"
    file.write_text(text)
    with pytest.raises(UnsupportedAlgorithm):
        serialization.load_pem_public_key(text.encode())
    with pytest.raises(ValueError, match="does not contain any valid"):
        public_keys(file)
    good = ec.generate_private_key(ec.SECP256R1()).public_key()
    file.write_bytes(text.encode() + good.public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    assert public_keys(file) == [good]
