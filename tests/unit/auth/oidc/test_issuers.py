"""Tokens, keys that come and go, issuers that are away, files that change: in virtual time, with issuers in memory."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import jwt
import orjson
import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orca.auth.oidc.config import Issuer, JwtAuthenticator, Source
from orca.auth.oidc.configured import Issuers, load
from orca.auth.oidc.fetching import Answer, FetchFailed
from orca.auth.oidc.issuer import JwtIssuer, Surroundings
from orca.auth.oidc.keys import lifetime, read_keys
from orca.auth.oidc.mapping import Mapping
from orca.auth.oidc.tokens import ALGORITHMS, TokenRefused, issuer_of, judge, take_apart
from orca.auth.oidc.validation import Expressions
from orca.client.clock import VirtualClock
from tests.support.issuer import Issuer as Signer
from tests.support.issuer import public, signing_key

URL = "https://id.example.com"
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = int(START.timestamp())


@pytest.fixture(scope="module")
def keys():
    return {"one": signing_key("RS256"), "two": signing_key("RS256"), "curve": signing_key("ES256")}


@pytest.fixture
def signer(keys):
    return Signer(URL, {"one": keys["one"]})


class Web:
    """The documents of issuers, by URL; what is not there cannot be reached."""

    def __init__(self, *signers):
        self.signers = signers
        self.asked = []
        self.headers = {}
        self.away = False
        self.slow = None
        self.documents = {}

    async def get(self, url, trust=None, *, bearer=""):
        self.asked.append(url)
        if self.slow is not None:
            await self.slow.wait()
        if url in self.documents:
            return Answer(200, "OK", {}, self.documents[url])
        for signer in () if self.away else self.signers:
            if url == f"{signer.url}/.well-known/openid-configuration":
                return Answer(200, "OK", {}, orjson.dumps(signer.discovery()))
            if url == f"{signer.url}/keys":
                return Answer(200, "OK", self.headers, orjson.dumps(signer.key_set()))
        raise FetchFailed(f'Get "{url}": dial tcp: connect: connection refused')

    async def aclose(self):
        pass


def spec(url=URL, **more):
    return JwtAuthenticator(
        issuer=Issuer(url=url, audiences=("orca",), **more),
        username=Source(claim="sub", prefix=""),
        groups=Source(claim="groups", prefix=""),
    )


async def found(web, clock, one=None, algorithms=ALGORITHMS):
    """An issuer that has been looked for."""
    around = Surroundings(web, clock, algorithms)
    made = JwtIssuer(Mapping(one or spec(), Expressions()), around)
    made.start()
    await clock.settle()
    return made


async def refusal(issuer, token):
    with pytest.raises(TokenRefused) as caught:
        await issuer.identify(token)
    return str(caught.value)


def token(signer, kid="", algorithm="RS256", **claims):
    return signer.token(kid, algorithm, **{"iat": NOW, "exp": NOW + 600, **claims})


async def test_a_token_names_its_user(signer):
    issuer = await found(Web(signer), VirtualClock())
    user, end = await issuer.identify(token(signer, groups=["a"]))
    assert (user.name, user.groups) == ("anna", ("a",))
    assert end.timestamp() == NOW + 600


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"aud": "other"}, 'oidc: verify token: oidc: expected audience "orca" got ["other"]'),
        ({"aud": None}, 'oidc: verify token: oidc: expected audience "orca" got []'),
        ({"exp": NOW - 1}, "oidc: verify token: oidc: token is expired (Token Expiry: 2025-12-31 23:59:59 +0000 UTC)"),
        ({"exp": None}, "oidc: verify token: oidc: token is expired (Token Expiry: 1970-01-01 00:00:00 +0000 UTC)"),
        ({"exp": "soon"}, "oidc: verify token: oidc: failed to unmarshal claims: exp is no number"),
        (
            {"nbf": NOW + 61},
            "oidc: verify token: oidc: current time 2026-01-01 00:00:00 +0000 UTC before the nbf (not before) time: "
            "2026-01-01 00:01:01 +0000 UTC",
        ),
        (
            {"iss": "https://other.example.com"},
            "oidc: verify token: oidc: id token issued by a different provider, "
            'expected "https://id.example.com" got "https://other.example.com"',
        ),
    ],
)
async def test_what_a_token_says_is_judged_first(signer, claims, told):
    web = Web(signer)
    issuer = await found(web, VirtualClock())
    assert await refusal(issuer, token(signer, **claims)) == told
    assert web.asked == [f"{URL}/.well-known/openid-configuration"]


async def test_one_of_several_audiences_will_do_and_clocks_may_differ_by_a_minute(signer):
    issuer = await found(Web(signer), VirtualClock())
    assert (await issuer.identify(token(signer, aud=["x", "orca"], nbf=NOW + 59)))[0].name == "anna"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_algorithms(keys, algorithm):
    signer = Signer(URL, {"one": signing_key(algorithm) if algorithm.startswith("ES") else keys["one"]})
    clock = VirtualClock()
    issuer = await found(Web(signer), clock)
    assert (await issuer.identify(token(signer, "", algorithm)))[0].name == "anna"
    if algorithm != "RS256":
        only = await found(Web(signer), clock, algorithms=("RS256",))
        told = await refusal(only, token(signer, "", algorithm))
        assert told.endswith(f'signed with unsupported algorithm, expected ["RS256"] got "{algorithm}"')


def forged(key, algorithm):
    """Signed by what everybody can read: the public key as a shared secret, or nothing."""
    header = {"alg": algorithm, "kid": "one", "typ": "JWT"}
    claims = {"iss": URL, "aud": "orca", "sub": "anna", "exp": NOW + 600}
    text = ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in (header, claims))
    if algorithm == "none":
        return f"{text}."
    secret = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    digest = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.mark.parametrize("algorithm", ["HS256", "none", "None", "RS256"])
async def test_forged_tokens(signer, keys, algorithm):
    issuer = await found(Web(signer), VirtualClock())
    with pytest.raises(TokenRefused):
        await issuer.identify(forged(keys["one"], algorithm))


async def test_a_signature_by_somebody_else(signer, keys):
    issuer = await found(Web(signer), VirtualClock())
    other = Signer(URL, {"one": keys["two"]})
    told = "oidc: verify token: failed to verify signature: failed to verify id token signature"
    assert await refusal(issuer, token(other)) == told
    good = token(signer)
    claims = take_apart(good).claims | {"sub": "root"}
    part = base64.urlsafe_b64encode(orjson.dumps(claims)).decode().rstrip("=")
    head, _, tail = good.split(".")
    assert await refusal(issuer, f"{head}.{part}.{tail}") == told


# -- keys


async def test_known_keys_cost_no_request_and_unknown_ones_one(signer, keys):
    web, clock = Web(signer), VirtualClock()
    issuer = await found(web, clock)
    for _ in range(3):
        await issuer.identify(token(signer))
    assert web.asked.count(f"{URL}/keys") == 1
    web.away = True
    await issuer.identify(token(signer))  # an issuer that is away keeps nobody out whose key is known
    web.away = False
    signer.keys = {"two": keys["two"]}
    await issuer.identify(token(signer))
    assert web.asked.count(f"{URL}/keys") == 2
    old = Signer(URL, {"one": keys["one"]})
    assert "failed to verify id token signature" in await refusal(issuer, token(old))


async def test_keys_that_the_issuer_lets_last_are_not_fetched_before(signer, keys):
    web, clock = Web(signer), VirtualClock()
    web.headers = {"cache-control": "public, max-age=100"}
    issuer = await found(web, clock)
    await issuer.identify(token(signer))
    signer.keys["two"] = keys["two"]
    assert "failed to verify id token signature" in await refusal(issuer, token(signer, "two"))
    assert web.asked.count(f"{URL}/keys") == 1
    await clock.advance(71)
    assert (await issuer.identify(token(signer, "two")))[0].name == "anna"


async def test_many_with_an_unknown_key_share_a_request_that_none_of_them_can_take_away(signer):
    web, clock = Web(signer), VirtualClock()
    issuer = await found(web, clock)
    web.slow = asyncio.Event()
    asking = [asyncio.create_task(issuer.identify(token(signer, sub=f"u{n}"))) for n in range(5)]
    await clock.settle()
    asking[0].cancel()
    await clock.settle()
    web.slow.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [one[0].name for one in answers[1:]] == ["u1", "u2", "u3", "u4"]
    assert web.asked.count(f"{URL}/keys") == 1


async def test_keys_that_cannot_be_fetched_are_asked_for_again(signer):
    web, clock = Web(signer), VirtualClock()
    issuer = await found(web, clock)
    web.away = True
    told = await refusal(issuer, token(signer))
    assert told.startswith("oidc: verify token: failed to verify signature: fetching keys Get ")
    web.away = False
    assert (await issuer.identify(token(signer)))[0].name == "anna"


async def test_a_key_without_an_identifier(keys):
    signer = Signer(URL, {"": keys["one"]})
    issuer = await found(Web(signer), VirtualClock())
    text = jwt.encode({"iss": URL, "aud": "orca", "sub": "anna", "exp": NOW + 9}, keys["one"], algorithm="RS256")
    assert (await issuer.identify(text))[0].name == "anna"


def test_keys_of_other_kinds_are_left_out(keys):
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}
    broken = {"kty": "RSA", "n": "!", "e": "AQAB"}
    curve = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    good = {**public(keys["curve"]), "kid": "c"}
    assert [key.key_id for key in read_keys(orjson.dumps({"keys": [secret, broken, curve, 5, good]}))] == ["c"]
    for text in (b"<html>", b"[]", b'{"keys": 1}'):
        with pytest.raises(FetchFailed):
            read_keys(text)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"cache-control": "max-age=60"}, 60),
        ({"cache-control": 'public, max-age=60, s-maxage="90"', "age": "10"}, 80),
        ({"cache-control": "max-age=60, no-store"}, 0),
        ({"cache-control": "private, max-age=60"}, 0),
        ({"cache-control": "max-age=soon"}, 0),
    ],
)
def test_how_long_keys_last(headers, seconds):
    assert lifetime(headers) == seconds


async def test_curves_are_those_of_the_algorithm(keys):
    """A P-256 key proves nothing in a token that says ES384, though it has signed with that hash."""
    issuer = await found(Web(Signer(URL, {"c": keys["curve"]})), VirtualClock())
    claims = {"iss": URL, "aud": "orca", "sub": "anna", "exp": NOW + 600}

    def signed(algorithm, digest):
        parts = (orjson.dumps({"alg": algorithm, "kid": "c"}), orjson.dumps(claims))
        text = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        r, s = decode_dss_signature(keys["curve"].sign(text.encode(), ec.ECDSA(digest)))
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{text}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"

    assert (await issuer.identify(signed("ES256", hashes.SHA256())))[0].name == "anna"
    assert "failed to verify id token signature" in await refusal(issuer, signed("ES384", hashes.SHA384()))


# -- finding issuers


async def test_an_issuer_that_comes_up_later(signer):
    web, clock = Web(signer), VirtualClock()
    web.away = True
    issuer = await found(web, clock)
    assert await refusal(issuer, token(signer)) == "oidc: authenticator not initialized"
    assert "connection refused" in issuer.verifier.problem
    web.away = False
    await clock.advance(10)
    assert (await issuer.identify(token(signer)))[0].name == "anna"


async def test_a_discovery_document_of_somebody_else(signer):
    web, clock = Web(signer), VirtualClock()
    web.documents[f"{URL}/.well-known/openid-configuration"] = b'{"issuer": "https://x", "jwks_uri": "https://x/keys"}'
    issuer = await found(web, clock)
    assert issuer.verifier.problem == (
        'oidc: issuer did not match the issuer returned by provider, expected "https://id.example.com" got "https://x"'
    )


async def test_a_discovery_document_at_another_place(signer):
    web, clock = Web(signer), VirtualClock()
    web.documents["https://in.cluster/doc"] = orjson.dumps(signer.discovery())
    issuer = await found(web, clock, spec(discovery_url="https://in.cluster/doc"))
    assert (await issuer.identify(token(signer)))[0].name == "anna"
    assert web.asked == ["https://in.cluster/doc", f"{URL}/keys"]


def test_what_is_no_token_has_no_issuer():
    for text in ("", "a.b", "a.b.c", "abcdef.0123456789abcdef", "....", "e30.W10.x"):
        assert issuer_of(text) == ""


def test_google_leaves_out_the_scheme():
    part = base64.urlsafe_b64encode(b'{"iss":"accounts.google.com","aud":"a","exp":1e12}').decode().rstrip("=")
    apart = take_apart(f"eyJhbGciOiJSUzI1NiJ9.{part}.x")
    assert (
        judge(apart, issuer="https://accounts.google.com", audiences=("a",), algorithms=("RS256",), now=START) > START
    )


# -- distributed claims


async def test_groups_that_are_kept_elsewhere(signer, keys):
    other = Signer("https://groups.example.com", {"g": keys["two"]})
    web, clock = Web(signer, other), VirtualClock()
    issuer = await found(web, clock)
    where = "https://groups.example.com/of/anna"
    web.documents[where] = token(other, groups=["far"]).encode()
    text = token(signer, _claim_names={"groups": "s"}, _claim_sources={"s": {"endpoint": where, "access_token": "t"}})
    assert "verifier not initialized for issuer" in await refusal(issuer, text)
    await clock.settle()
    assert (await issuer.identify(text))[0].groups == ("far",)
    web.documents[where] = token(other).encode()
    assert "did not contain claim: groups" in await refusal(issuer, text)
    web.documents[where] = token(Signer(other.url, {"g": keys["one"]}), groups=["root"]).encode()
    assert "verify distributed claim token: failed to verify signature" in await refusal(issuer, text)
    assert (await issuer.identify(token(signer, groups=["near"], _claim_names={"groups": "s"})))[0].groups == ("near",)


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"_claim_names": {"groups": "s"}}, "oidc: no claim sources"),
        ({"_claim_names": {"groups": "s"}, "_claim_sources": {}}, "missing in _claims_sources"),
        ({"_claim_names": 5}, "error parsing distributed claim names"),
        (
            {"_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"endpoint": "http://a"}}},
            "the endpoint is no URL of https",
        ),
        (
            {"_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"endpoint": "https://gone"}}},
            'while getting distributed claim "groups": Get "https://gone"',
        ),
    ],
)
async def test_groups_that_cannot_be_found(signer, claims, told):
    issuer = await found(Web(signer), VirtualClock())
    answer = await refusal(issuer, token(signer, **claims))
    assert answer.startswith("oidc: could not expand distributed claims: ")
    assert told in answer


# -- files


def content(*urls, **more):
    jwt_ = [
        {"issuer": {"url": url, "audiences": ["orca"]}, "claimMappings": {"username": {"claim": "sub", "prefix": ""}}}
        for url in urls
    ]
    text = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt_, **more}
    return yaml.safe_dump(text).encode()


@pytest.fixture
def followed(tmp_path, monkeypatch, signer, keys):
    """(issuers that follow a file, the file, what they fetch, the clock); a second issuer can be configured."""
    other = Signer("https://other.example.com", {"o": keys["two"]})
    web, clock = Web(signer, other), VirtualClock()
    monkeypatch.setattr("orca.auth.oidc.configured.Fetcher", lambda: web)
    path = tmp_path / "authentication.yaml"
    path.write_bytes(content(URL))
    issuers = Issuers(load(path.read_bytes(), ()), clock=clock, path=path)
    return issuers, path, web, clock


def lasting(signer):
    """A token that outlives whatever time goes by while a thread of a busy machine reads a file."""
    return token(signer, exp=NOW + 10**8)


async def looked(issuers, path, clock, text):
    """Offer a new content, and let time go by until it is settled. (whether it was used or refused, seconds)."""
    path.write_bytes(text)
    before = clock.monotonic()
    taking = asyncio.create_task(issuers._take(path.read_bytes()))
    while not taking.done():
        await asyncio.sleep(0.001)  # it is read in a thread, which knows nothing of virtual time
        await clock.advance(0.5)
    return await taking, clock.monotonic() - before


async def test_other_issuers_take_over_once_they_are_found(followed, signer):
    issuers, path, web, clock = followed
    issuers.start()
    await clock.settle()
    changes = []
    issuers.changed = lambda: changes.append(1)
    assert (await looked(issuers, path, clock, content("https://other.example.com")))[0]
    assert changes == [1]
    assert issuers.of(token(signer)) is None
    other = issuers.of(token(web.signers[1]))
    assert (await other.identify(lasting(web.signers[1])))[0].name == "anna"
    await issuers.aclose()


async def test_issuers_stay_while_others_cannot_be_found(followed, signer):
    issuers, path, web, clock = followed
    issuers.start()
    await clock.settle()
    settled, seconds = await looked(issuers, path, clock, content("https://nowhere.example.com"))
    assert not settled
    assert seconds >= 60
    assert (await issuers.of(token(signer)).identify(lasting(signer)))[0].name == "anna"
    assert (await looked(issuers, path, clock, content(URL, "https://other.example.com")))[0]
    assert issuers.of(token(web.signers[1])) is not None
    await issuers.aclose()


@pytest.mark.parametrize(
    "text", [b"", b"jwt: 5", content("http://a"), content(URL, anonymous={"enabled": True}), content(URL, URL)]
)
async def test_issuers_stay_when_the_file_is_wrong(followed, signer, text):
    issuers, path, _web, clock = followed
    before = asyncio.all_tasks()
    issuers.start()
    await clock.settle()
    assert (await looked(issuers, path, clock, text))[0]
    assert issuers.of(token(signer)) is not None
    await issuers.aclose()
    assert asyncio.all_tasks() <= before
