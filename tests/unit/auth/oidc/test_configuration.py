"""AuthenticationConfiguration: what is refused, by field, and what it means."""

import pytest
import yaml

from orca.auth.oidc import ConfigInvalid, load
from orca.auth.oidc.config import Anonymous, AuthenticationConfiguration, parse

OURS = "https://kubernetes.default.svc.cluster.local"


def written(*jwt, **more):
    return yaml.safe_dump(
        {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": list(jwt), **more}
    ).encode()


def issuer(**more):
    return {"url": "https://id.example.com", "audiences": ["orca"], **more}


def one(issuer_=None, mappings=None, **more):
    mappings = {"username": {"claim": "sub", "prefix": "x:"}, **(mappings or {})}
    return {"issuer": issuer_ or issuer(), "claimMappings": mappings, **more}


def problem(*jwt, **more):
    with pytest.raises(ConfigInvalid) as caught:
        load(written(*jwt, **more), (OURS,))
    return str(caught.value)


def test_all_fields():
    spec = {
        "issuer": issuer(
            discoveryURL="https://elsewhere.example.com/doc", audiences=["a", "b"], audienceMatchPolicy="MatchAny"
        ),
        "claimValidationRules": [
            {"claim": "hd", "requiredValue": "example.com"},
            {"expression": "claims.level > 3", "message": "too low"},
        ],
        "claimMappings": {
            "username": {"expression": "'u:' + claims.sub"},
            "groups": {"claim": "groups", "prefix": ""},
            "uid": {"claim": "id"},
            "extra": [{"key": "example.com/team", "valueExpression": "claims.team"}],
        },
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')"}],
    }
    loaded = load(written(spec, anonymous={"enabled": True, "conditions": [{"path": "/livez"}]}), (OURS,))
    assert loaded.anonymous == Anonymous(enabled=True, paths=("/livez",))
    (found,) = loaded.config.jwt
    assert found.issuer.discovery_url == "https://elsewhere.example.com/doc"
    assert found.groups.prefix == ""
    assert found.uid.claim == "id"
    (made,) = loaded.expressions
    assert [message for _, message in made.claim_rules] == ["too low"]
    assert [key for key, _ in made.extra] == ["example.com/team"]


def test_nothing_is_a_configuration_too():
    assert parse(written()) == AuthenticationConfiguration()
    assert load(written(), ()).anonymous is None


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
def test_versions(version):
    parse(f"apiVersion: apiserver.config.k8s.io/{version}\nkind: AuthenticationConfiguration".encode())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "empty config data"),
        (b"[]", "must be an object of kind AuthenticationConfiguration"),
        (b"a: [", "error converting YAML to JSON"),
        (b"apiVersion: v1\nkind: Pod", 'no kind "Pod" is registered for version "v1"'),
        (written(clients=[]), 'unknown field "clients"'),
        (written({"issuer": {"uri": 1}}), 'unknown field "jwt[0].issuer.uri"'),
        (written({"issuer": {"audiences": "orca"}}), "jwt[0].issuer.audiences: must be a list"),
        (written({"issuer": {"url": 5}}), "jwt[0].issuer.url: must be a string"),
        (written(anonymous={"enabled": "yes"}), "anonymous.enabled: must be a boolean"),
        (written() + b"jwt: []\n", 'key "jwt" already set in map'),
    ],
)
def test_form(text, told):
    with pytest.raises(ConfigInvalid) as caught:
        load(text, ())
    assert told in str(caught.value)


CLAIM_PREFIX = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"


@pytest.mark.parametrize(
    ("jwt", "told"),
    [
        (one(issuer(url="")), "jwt[0].issuer.url: Required value"),
        (one(issuer(url="http://a")), 'jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https'),
        (
            one(issuer(url="https://me:x@a")),
            'jwt[0].issuer.url: Invalid value: "https://me:x@a": URL must not contain a username or password',
        ),
        (
            one(issuer(url="https://a?b=c")),
            'jwt[0].issuer.url: Invalid value: "https://a?b=c": URL must not contain a query',
        ),
        (
            one(issuer(url="https://a#b")),
            'jwt[0].issuer.url: Invalid value: "https://a#b": URL must not contain a fragment',
        ),
        (
            one(issuer(url=OURS)),
            f'jwt[0].issuer.url: Invalid value: "{OURS}": URL must not overlap with disallowed issuers: [{OURS}]',
        ),
        (
            one(issuer(discoveryURL="https://id.example.com/")),
            'jwt[0].issuer.discoveryURL: Invalid value: "https://id.example.com/": '
            "discoveryURL must be different from URL",
        ),
        (
            one(issuer(audiences=[])),
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (one(issuer(audiences=[""])), "jwt[0].issuer.audiences[0]: Required value"),
        (
            one(issuer(audiences=["a", "a"], audienceMatchPolicy="MatchAny")),
            'jwt[0].issuer.audiences[1]: Duplicate value: "a"',
        ),
        (
            one(issuer(audiences=["a", "b"])),
            'jwt[0].issuer.audienceMatchPolicy: Invalid value: "": '
            "audienceMatchPolicy must be MatchAny for multiple audiences",
        ),
        (
            one(issuer(audienceMatchPolicy="All")),
            'jwt[0].issuer.audienceMatchPolicy: Invalid value: "All": '
            "audienceMatchPolicy must be empty or MatchAny for single audience",
        ),
        (
            one(issuer(certificateAuthority="nonsense")),
            'jwt[0].issuer.certificateAuthority: Invalid value: "<omitted>": '
            "data does not contain any valid RSA or ECDSA certificates",
        ),
        (
            one(issuer(egressSelectorType="cluster")),
            'jwt[0].issuer.egressSelectorType: Invalid value: "cluster": '
            "egress selectors are not supported by orca: issuers are reached directly",
        ),
        (
            one(mappings={"username": {}}),
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            one(mappings={"username": {"claim": "a", "expression": "claims.a"}}),
            'jwt[0].claimMappings.username: Invalid value: "": claim and expression can\'t both be set',
        ),
        (
            one(mappings={"username": {"claim": "a"}}),
            f"jwt[0].claimMappings.username.prefix: Required value: {CLAIM_PREFIX}",
        ),
        (
            one(mappings={"username": {"expression": "claims.a", "prefix": "b"}}),
            'jwt[0].claimMappings.username.prefix: Invalid value: "b": may not be specified when expression is set',
        ),
        (
            one(mappings={"groups": {"claim": "a"}}),
            f"jwt[0].claimMappings.groups.prefix: Required value: {CLAIM_PREFIX}",
        ),
        (
            one(mappings={"uid": {"claim": "a", "expression": "claims.a"}}),
            'jwt[0].claimMappings.uid: Invalid value: "": claim and expression can\'t both be set',
        ),
        (
            one(mappings={"extra": [{"key": "team", "valueExpression": "claims.a"}]}),
            'jwt[0].claimMappings.extra[0].key: Invalid value: "team": '
            'must be a domain-prefixed path (such as "acme.io/foo")',
        ),
        (
            one(mappings={"extra": [{"key": "a.io/Team", "valueExpression": "claims.a"}]}),
            'jwt[0].claimMappings.extra[0].key: Invalid value: "a.io/Team": must be lowercase',
        ),
        (
            one(mappings={"extra": [{"key": "x.k8s.io/team", "valueExpression": "claims.a"}]}),
            'jwt[0].claimMappings.extra[0].key: Invalid value: "x.k8s.io/team": '
            "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        ),
        (
            one(mappings={"extra": [{"key": "a.io/b"}]}),
            "jwt[0].claimMappings.extra[0].valueExpression: Required value",
        ),
        (
            one(claimValidationRules=[{}]),
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
        ),
        (
            one(claimValidationRules=[{"claim": "a", "expression": "true"}]),
            'jwt[0].claimValidationRules[0]: Invalid value: "a": claim and expression can\'t both be set',
        ),
        (
            one(claimValidationRules=[{"claim": "a", "message": "m"}]),
            'jwt[0].claimValidationRules[0].message: Invalid value: "m": may not be specified when claim is set',
        ),
        (
            one(claimValidationRules=[{"claim": "a"}, {"claim": "a"}]),
            'jwt[0].claimValidationRules[1].claim: Duplicate value: "a"',
        ),
        (
            one(claimValidationRules=[{"expression": "true", "requiredValue": "v"}]),
            'jwt[0].claimValidationRules[0].requiredValue: Invalid value: "v": '
            "may not be specified when expression is set",
        ),
        (
            one(claimValidationRules=[{"expression": "claims.level"}]),
            'jwt[0].claimValidationRules[0].expression: Invalid value: "claims.level": must evaluate to bool',
        ),
        (one(userValidationRules=[{}]), "jwt[0].userValidationRules[0].expression: Required value"),
        (
            one(userValidationRules=[{"expression": "true"}, {"expression": "true"}]),
            'jwt[0].userValidationRules[1].expression: Duplicate value: "true"',
        ),
    ],
)
def test_fields(jwt, told):
    assert problem(jwt) == told


def test_expressions_are_compiled_at_once():
    told = problem(one(userValidationRules=[{"expression": "user.name == 'a'"}]))
    assert told.startswith(
        "jwt[0].userValidationRules[0].expression: Invalid value: \"user.name == 'a'\": compilation failed: ERROR: "
    )
    assert "undefined field 'name'" in told


def test_issuers_are_told_apart():
    assert problem(one(), one()) == 'jwt[1].issuer.url: Duplicate value: "https://id.example.com"'
    assert problem(*[one()] * 65) == "jwt: Too many: 65: must have at most 64 items"


@pytest.mark.parametrize(
    ("expression", "rules", "good"),
    [
        ("claims.email", [], False),
        ("claims.?email.orValue('')", [], False),
        ("claims['email']", [], True),
        ("claims.email_verified ? claims.email : claims.sub", [], True),
        ("claims.email", [{"expression": "claims.?email_verified.orValue(true) == true"}], True),
        ("claims.email", [{"expression": "has(claims.other)"}], False),
    ],
)
def test_addresses_that_are_names_have_to_be_verified(expression, rules, good):
    spec = one(mappings={"username": {"expression": expression}}, claimValidationRules=rules)
    if good:
        load(written(spec), ())
    else:
        assert "claims.email_verified must be used" in problem(spec)


def test_anonymous_conditions_need_anonymous_access():
    told = problem(anonymous={"enabled": False, "conditions": [{"path": "/livez"}]})
    assert told == (
        'anonymous.conditions: Invalid value: [{"path":"/livez"}]: '
        "enabled should be set to true when conditions are defined"
    )


def test_all_problems_are_told():
    told = problem(one(issuer(url="", audiences=[])))
    assert told.startswith("[jwt[0].issuer.url: Required value, jwt[0].issuer.audiences: Required value")
