"""From claims to users."""

import pytest
import yaml

from orca.auth.oidc import load
from orca.auth.oidc.mapping import Mapping
from orca.auth.oidc.tokens import TokenRefused


def mapping(mappings, **more):
    spec = {"issuer": {"url": "https://a", "audiences": ["orca"]}, "claimMappings": mappings, **more}
    text = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [spec]}
    loaded = load(yaml.safe_dump(text).encode(), ())
    return Mapping(loaded.config.jwt[0], loaded.expressions[0])


def refusal(made, claims):
    with pytest.raises(TokenRefused) as caught:
        made.user(claims)
    return str(caught.value)


SUB = {"username": {"claim": "sub", "prefix": ""}}


def test_claims_and_prefixes():
    made = mapping(
        {
            "username": {"claim": "sub", "prefix": "oidc:"},
            "groups": {"claim": "groups", "prefix": "g:"},
            "uid": {"claim": "id"},
        }
    )
    user = made.user({"sub": "anna", "groups": ["a", "b"], "id": "7", "jti": "t1"})
    assert (user.name, user.uid, user.groups) == ("oidc:anna", "7", ("g:a", "g:b"))
    assert user.extra == {"authentication.kubernetes.io/credential-id": ("JTI=t1",)}
    assert made.user({"sub": "anna", "groups": "a", "id": "7"}).groups == ("g:a",)
    assert made.user({"sub": "anna", "id": "7"}).groups == ()


def test_expressions():
    made = mapping(
        {
            "username": {"expression": "claims.sub + '@' + claims.realm.name"},
            "groups": {"expression": "claims.roles.filter(r, r.startsWith('k-')).map(r, r.substring(2))"},
            "uid": {"expression": "string(claims.number)"},
            "extra": [
                {"key": "example.com/one", "valueExpression": "claims.team"},
                {"key": "example.com/none", "valueExpression": "claims.?missing.orValue('')"},
                {"key": "example.com/some", "valueExpression": "[claims.team, '']"},
            ],
        }
    )
    claims = {"sub": "anna", "realm": {"name": "r"}, "roles": ["k-a", "x", "k-b"], "number": 5, "team": "red"}
    user = made.user(claims)
    assert (user.name, user.uid, user.groups) == ("anna@r", "5", ("a", "b"))
    assert user.extra == {"example.com/one": ("red",), "example.com/some": ("red",)}


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({}, 'oidc: parse username claims "sub": claim not present'),
        ({"sub": None}, 'oidc: parse username claims "sub": claim not present'),
        ({"sub": 5}, 'oidc: parse username claims "sub": it is no string'),
        ({"sub": ""}, "oidc: the user has no name"),
        ({"sub": "a", "groups": [1]}, 'oidc: parse groups claim "groups": neither a string nor a list of strings'),
        ({"sub": "a", "groups": {}}, 'oidc: parse groups claim "groups": neither a string nor a list of strings'),
    ],
)
def test_claims_that_do_not_fit(claims, told):
    if claims.get("groups") == {}:
        claims = {**claims, "groups": {"a": 1}}
    made = mapping({**SUB, "groups": {"claim": "groups", "prefix": ""}})
    assert refusal(made, claims) == told


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"email": "a@b"}, ""),
        ({"email": "a@b", "email_verified": True}, ""),
        ({"email": "a@b", "email_verified": False}, "oidc: email not verified"),
        ({"email": "a@b", "email_verified": "true"}, "oidc: parse 'email_verified' claim: it is no boolean"),
    ],
)
def test_addresses(claims, told):
    made = mapping({"username": {"claim": "email", "prefix": ""}})
    assert refusal(made, claims) == told if told else made.user(claims).name == "a@b"


@pytest.mark.parametrize(
    ("rule", "claims", "told"),
    [
        ({"claim": "hd", "requiredValue": "x"}, {"hd": "x"}, ""),
        ({"claim": "hd", "requiredValue": "x"}, {}, "oidc: required claim hd not present in ID token"),
        (
            {"claim": "hd", "requiredValue": "x"},
            {"hd": "y"},
            "oidc: required claim hd value does not match. Got = y, want = x",
        ),
        ({"claim": "hd", "requiredValue": "x"}, {"hd": ["x"]}, "oidc: parse claim hd: it is no string"),
        ({"expression": "claims.level > 2"}, {"level": 3}, ""),
        (
            {"expression": "claims.level > 2", "message": "too low"},
            {"level": 1},
            "oidc: error evaluating claim validation expression: "
            "validation expression 'claims.level > 2' failed: too low",
        ),
        (
            {"expression": "claims.level > 2"},
            {},
            "oidc: error evaluating claim validation expression: "
            "expression 'claims.level > 2' resulted in error: no such key: level",
        ),
    ],
)
def test_rules_over_claims(rule, claims, told):
    made = mapping(SUB, claimValidationRules=[rule])
    claims = {"sub": "anna", **claims}
    assert refusal(made, claims) == told if told else made.user(claims).name == "anna"


def test_rules_over_users():
    made = mapping(
        {**SUB, "groups": {"claim": "groups", "prefix": ""}},
        userValidationRules=[
            {"expression": "user.groups.all(g, !g.startsWith('system:'))", "message": "reserved"},
            {"expression": "user.uid == '' && size(user.extra) == 0"},
        ],
    )
    assert made.user({"sub": "anna", "groups": ["a"]}).name == "anna"
    told = refusal(made, {"sub": "anna", "groups": ["system:masters"]})
    assert told.startswith("oidc: error evaluating user info validation rule: validation expression 'user.groups.all")
    assert told.endswith("failed: reserved")


@pytest.mark.parametrize(
    ("mappings", "told"),
    [
        ({"username": {"expression": "claims.n"}}, "username claim expression must return a string"),
        ({**SUB, "uid": {"expression": "claims.n"}}, "uid claim expression must return a string"),
        ({**SUB, "groups": {"expression": "claims.n"}}, "expression must return a string or a list of strings"),
        ({**SUB, "groups": {"expression": "[claims.n]"}}, "expression must return a string or a list of strings"),
    ],
)
def test_expressions_of_other_types(mappings, told):
    assert told in refusal(mapping(mappings), {"sub": "anna", "n": 5})
