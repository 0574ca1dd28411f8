"""Flags of ``orca server`` about who somebody is."""

import click
import pytest
import yaml
from click.testing import CliRunner

from orca.auth.oidc.config import Anonymous, ClaimRule, Source
from orca.cli.authentication import Authentication, authentication_options

ISSUER = ("--oidc-issuer-url=https://id.example.com", "--oidc-client-id=orca")


def given(*flags):
    """What flags mean."""
    taken = []

    @click.command()
    @authentication_options
    def command(**values):
        taken.append(Authentication.taken_from(values, click.get_current_context()))
        assert not values

    result = CliRunner().invoke(command, flags, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return taken[0]


def refusal(*flags):
    with pytest.raises(click.ClickException) as caught:
        given(*flags)
    return caught.value.message


def written(path, **more):
    path.write_text(
        yaml.safe_dump({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", **more})
    )
    return f"--authentication-config={path}"


def test_nobody_else_is_asked_unless_told():
    found = given()
    assert (found.tokens, found.anonymous, found.remote) == ((), Anonymous(enabled=True), None)


def test_audiences_of_the_api():
    assert given().audiences == ()
    assert given("--api-audiences=a, b,", "--api-audiences=c").audiences == ("a", "b", "c")


def test_an_issuer():
    remote = given(*ISSUER).remote
    (one,) = remote.loaded.config.jwt
    assert (one.issuer.url, one.issuer.audiences) == ("https://id.example.com", ("orca",))
    assert one.username == Source(claim="sub", prefix="https://id.example.com#")
    assert one.groups == Source()
    assert remote.algorithms == ("RS256",)


@pytest.mark.parametrize(
    ("flags", "username"),
    [
        (["--oidc-username-claim=email"], Source(claim="email", prefix="")),
        (["--oidc-username-claim=email", "--oidc-username-prefix=x:"], Source(claim="email", prefix="x:")),
        (["--oidc-username-prefix=-"], Source(claim="sub", prefix="")),
    ],
)
def test_prefixes_of_names(flags, username):
    assert given(*ISSUER, *flags).remote.loaded.config.jwt[0].username == username


def test_the_rest_of_an_issuer():
    flags = ("--oidc-groups-claim=roles", "--oidc-groups-prefix=g:", "--oidc-signing-algs=ES256,PS512")
    remote = given(*ISSUER, *flags, "--oidc-required-claim=hd=a=b", "--oidc-required-claim=x=y").remote
    (one,) = remote.loaded.config.jwt
    assert one.groups == Source(claim="roles", prefix="g:")
    assert one.claim_rules == (ClaimRule(claim="hd", required_value="a=b"), ClaimRule(claim="x", required_value="y"))
    assert remote.algorithms == ("ES256", "PS512")


def test_flags_that_do_not_fit(tmp_path):
    together = "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
    assert refusal("--oidc-issuer-url=https://a") == together
    assert refusal("--oidc-groups-claim=a") == together
    assert 'oidc: unsupported signing alg: "HS256"' in refusal(*ISSUER, "--oidc-signing-algs=HS256")
    assert "is not of the form claim=value" in refusal(*ISSUER, "--oidc-required-claim=a")
    assert refusal("--oidc-issuer-url=http://a", "--oidc-client-id=b") == (
        'invalid authentication configuration: jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https'
    )
    file = written(tmp_path / "a.yaml", anonymous={"enabled": True})
    assert refusal(file, *ISSUER) == "authentication-config file and oidc-* flags are mutually exclusive"
    assert refusal(file, "--anonymous-auth=true") == (
        "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in "
        "authentication configuration file"
    )
    assert "invalid authentication configuration: strict decoding error" in refusal(written(tmp_path / "b", x=1))


def test_a_file(tmp_path):
    found = given(written(tmp_path / "a.yaml", anonymous={"enabled": True, "conditions": [{"path": "/livez"}]}))
    assert found.anonymous == Anonymous(enabled=True, paths=("/livez",))
    assert found.remote.path == tmp_path / "a.yaml"
    assert "ES512" in found.remote.algorithms
    assert given(written(tmp_path / "b.yaml"), "--anonymous-auth=false").anonymous == Anonymous(enabled=False)


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ({}, ""),
        ({"token": "t"}, ""),
        ({"exec": {"command": "x"}}, "user 'w' has exec, which orca does not support here"),
        ({"username": "a", "password": "b"}, "user 'w' has password, username, which orca does not support here"),
    ],
)
def test_a_webhook(tmp_path, user, told):
    path = tmp_path / "kubeconfig"
    cluster = {"server": "https://127.0.0.1:1/authenticate"}
    parts = {"clusters": [{"name": "w", "cluster": cluster}], "users": [{"name": "w", "user": user}]}
    parts["contexts"] = [{"name": "w", "context": {"cluster": "w", "user": "w"}}]
    path.write_text(yaml.safe_dump({**parts, "current-context": "w"}))
    flag = f"--authentication-token-webhook-config-file={path}"
    if told:
        assert told in refusal(flag)
        return
    remote = given(flag, "--authentication-token-webhook-cache-ttl=0s").remote
    assert (remote.webhook_version, remote.webhook_seconds) == ("v1beta1", 0.0)


def test_a_webhook_that_is_nowhere(tmp_path):
    (tmp_path / "k").write_text("clusters: []")
    assert "there is no current-context" in refusal(f"--authentication-token-webhook-config-file={tmp_path / 'k'}")
