"""Flags of ``orca server`` about who somebody is, named and judged as kube-apiserver's.

Reference: k8s.io/kubernetes ``pkg/kubeapiserver/options/authentication.go``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from orca.api.errors import FieldError
from orca.auth import StaticTokens
from orca.auth.account_keys import public_keys
from orca.auth.oidc import AuthenticationConfiguration, ConfigInvalid, load
from orca.auth.oidc.config import Anonymous, ClaimRule, Issuer, JwtAuthenticator, Source
from orca.auth.oidc.configured import Loaded, checked
from orca.auth.oidc.tokens import ALGORITHMS
from orca.auth.posting import ReviewCaller
from orca.auth.remote import RemoteConfig
from orca.auth.service_accounts import ISSUER
from orca.auth.token_requests import MAX_SECONDS, Lifetimes, TokenSettings
from orca.auth.tokenreview import VERSIONS
from orca.cli.flags import Command, Duration, with_options
from orca.client.kubeconfig import Kubeconfig, KubeconfigError

_file = click.Path(path_type=Path, dir_okay=False, exists=True)
_OIDC = "oidc_"


def _claims(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in value:
        key, equals, wanted = one.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{one!r} is not of the form claim=value")
        found[key.strip()] = wanted.strip()
    return found


def _audiences(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one.strip() for each in value for one in each.split(",") if one.strip())


def _issuers(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for one in value:
        if not one:
            raise click.BadParameter("an issuer needs a name")
        if ":" in one and not _url(one):
            raise click.BadParameter(f"{one!r} contains a colon and is no URL")
    return tuple(dict.fromkeys(value)) or (ISSUER,)


def _https(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value and not _url(value).startswith("https:"):
        raise click.BadParameter(f"{value!r} is no https URL")
    return value


def _verifying(_context: click.Context, _parameter: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in value:
        try:
            public_keys(path)
        except (OSError, ValueError) as error:
            raise click.BadParameter(str(error)) from None
    return value


def _url(text: str) -> str:
    """What it means, "" for what is no URL."""
    try:
        parts = urlsplit(text)
        return text if parts.scheme and (parts.hostname or parts.path) and parts.port != 0 else ""
    except ValueError:
        return ""


def _longest(_context: click.Context, _parameter: click.Parameter, value: float) -> int:
    if value and not 3600 <= value <= MAX_SECONDS:
        raise click.BadParameter("must be between 1 hour and 2^32 seconds")
    return int(value)


def _algorithms(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    found = tuple(one.strip() for one in value.split(",") if one.strip())
    for one in found:
        if one not in ALGORITHMS:
            raise click.BadParameter(f'oidc: unsupported signing alg: "{one}"; known are {", ".join(ALGORITHMS)}')
    return found


_OPTIONS = (
    click.option("--token-auth-file", type=_file, default=None, help='CSV of static tokens: token,user,uid,"groups".'),
    click.option(
        "--anonymous-auth",
        type=bool,
        default=True,
        help="Take requests without credentials as those of system:anonymous.",
    ),
    click.option(
        "--authentication-config",
        type=_file,
        default=None,
        help="AuthenticationConfiguration: issuers of JWTs, what may be asked for anonymously; used anew on change.",
    ),
    click.option(
        "--api-audiences",
        multiple=True,
        callback=_audiences,
        help="Names of this API, comma separated: tokens of service accounts must be meant for one, and are for all of "
        "them when they are asked for without.",
        show_default="the issuers of those tokens",
    ),
    click.option(
        "--service-account-issuer",
        "service_account_issuers",
        multiple=True,
        callback=_issuers,
        help="Who the tokens of service accounts are from; an https address, where others look for the keys. May be "
        "repeated: tokens of all are accepted, new ones are the first's.",
        show_default=ISSUER,
    ),
    click.option(
        "--service-account-jwks-uri",
        default="",
        callback=_https,
        help="Where the issuer's discovery document says that the keys are; https.",
        show_default="this server",
    ),
    click.option(
        "--service-account-key-file",
        "service_account_key_files",
        type=_file,
        multiple=True,
        callback=_verifying,
        help="Keys (PEM: RSA or ECDSA, public or private, any number in a file) that verify such tokens beside the one "
        "that signs them. May be repeated.",
    ),
    click.option(
        "--service-account-max-token-expiration",
        type=Duration(),
        default="0s",
        callback=_longest,
        help="How long such tokens may live, but for those in Secrets; 0: as long as they are asked for.",
    ),
    click.option(
        "--service-account-extend-token-expiration",
        type=bool,
        default=True,
        help="Let tokens that admission mounts into pods live for a year, for programs that read them once.",
    ),
    click.option("--oidc-issuer-url", default="", help="The OpenID issuer whose ID tokens are accepted; https."),
    click.option("--oidc-client-id", default="", help="The client that those tokens must be for."),
    click.option("--oidc-ca-file", type=_file, default=None, help="The CA of the issuer; else those of this host."),
    click.option("--oidc-username-claim", default="sub", help="The claim that is the user's name."),
    click.option(
        "--oidc-username-prefix",
        default="",
        help="Put before user names; - for none.",
        show_default="the issuer's URL and #, nothing before the claim email",
    ),
    click.option("--oidc-groups-claim", default="", help="The claim that has the user's groups."),
    click.option("--oidc-groups-prefix", default="", help="Put before groups."),
    click.option("--oidc-signing-algs", default="RS256", callback=_algorithms, help="How tokens may be signed."),
    click.option(
        "--oidc-required-claim",
        "oidc_required_claims",
        multiple=True,
        callback=_claims,
        help="A claim and its value, claim=value, that tokens must have; may be repeated.",
    ),
    click.option(
        "--authentication-token-webhook-config-file",
        "webhook_file",
        type=_file,
        default=None,
        help="A kubeconfig: its server is asked, by a TokenReview, whose a bearer token is.",
    ),
    click.option(
        "--authentication-token-webhook-version",
        "webhook_version",
        type=click.Choice(VERSIONS),
        default="v1beta1",
        help="The version of the TokenReviews that it is sent.",
    ),
    click.option(
        "--authentication-token-webhook-cache-ttl",
        "webhook_seconds",
        type=Duration(),
        default="2m",
        help="How long its answers are kept.",
    ),
)


def authentication_options(command: Command) -> Command:
    """All of them on a click command; ``Authentication.taken_from`` takes their values."""
    return with_options(command, _OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """What these flags, and the files they name, say."""

    tokens: tuple[StaticTokens, ...]
    anonymous: Anonymous
    audiences: tuple[str, ...]
    """Of this API; its tokens' issuer when empty."""
    account_tokens: TokenSettings
    remote: RemoteConfig | None

    @classmethod
    def taken_from(cls, values: dict[str, Any], context: click.Context) -> Authentication:
        """Takes its values out of those of a command. Raises click.ClickException for what cannot be used."""
        token_file, anonymous = values.pop("token_auth_file"), values.pop("anonymous_auth")
        path, audiences = values.pop("authentication_config"), values.pop("api_audiences")
        webhook_file, version, seconds = (values.pop(f"webhook_{one}") for one in ("file", "version", "seconds"))
        account_tokens = TokenSettings(
            issuers=values.pop("service_account_issuers"),
            jwks_uri=values.pop("service_account_jwks_uri"),
            key_files=values.pop("service_account_key_files"),
            lifetimes=Lifetimes(
                longest=values.pop("service_account_max_token_expiration"),
                extended=values.pop("service_account_extend_token_expiration"),
            ),
        )
        issuers = account_tokens.issuers
        oidc = {key: values.pop(key) for key in list(values) if key.startswith(_OIDC)}
        told = any(_given(context, key) for key in oidc)
        try:
            tokens = (StaticTokens.from_file(token_file),) if token_file else ()
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        if path is not None and told:
            raise click.UsageError("authentication-config file and oidc-* flags are mutually exclusive")
        try:
            loaded = _file_loaded(path, issuers) if path is not None else _flags_loaded(oidc, issuers) if told else None
        except ConfigInvalid as error:
            where = f"--authentication-config {path}: " if path is not None else ""
            raise click.ClickException(f"{where}invalid authentication configuration: {error}") from error
        allowed = Anonymous(enabled=anonymous)
        if loaded is not None and loaded.anonymous is not None:
            if _given(context, "anonymous_auth"):
                text = (
                    "--anonymous-auth flag cannot be set when anonymous field is configured in authentication "
                    "configuration file"
                )
                raise click.UsageError(str(FieldError.forbidden("anonymous", text)))
            allowed = loaded.anonymous
        if loaded is None and webhook_file is None:
            return cls(
                tokens=tokens, anonymous=allowed, audiences=audiences, account_tokens=account_tokens, remote=None
            )
        remote = RemoteConfig(
            loaded=loaded,
            path=path,
            algorithms=ALGORITHMS if path is not None else oidc["oidc_signing_algs"] or ("RS256",),
            webhook=_caller(webhook_file),
            webhook_version=version,
            webhook_seconds=seconds,
        )
        return cls(tokens=tokens, anonymous=allowed, audiences=audiences, account_tokens=account_tokens, remote=remote)


def _given(context: click.Context, key: str) -> bool:
    return context.get_parameter_source(key) not in (None, ParameterSource.DEFAULT)


def _file_loaded(path: Path, own: tuple[str, ...]) -> Loaded:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(str(error.strerror)) from error
    return load(content, own)


def _flags_loaded(oidc: dict[str, Any], own: tuple[str, ...]) -> Loaded:
    """What the flags say, as a file would."""
    url, client = oidc["oidc_issuer_url"], oidc["oidc_client_id"]
    if not url or not client:
        text = "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
        raise click.UsageError(text)
    claim, prefix = oidc["oidc_username_claim"], oidc["oidc_username_prefix"]
    if not prefix and claim != "email":
        prefix = f"{url}#"  # names of other claims are not unique among issuers
    groups = oidc["oidc_groups_claim"]
    authority = oidc["oidc_ca_file"]
    try:
        certificates = authority.read_text() if authority is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"--oidc-ca-file {authority}: {error}") from error
    one = JwtAuthenticator(
        issuer=Issuer(url=url, audiences=(client,), certificate_authority=certificates),
        username=Source(claim=claim, prefix="" if prefix == "-" else prefix),
        groups=Source(claim=groups, prefix=oidc["oidc_groups_prefix"]) if groups else Source(),
        claim_rules=tuple(
            ClaimRule(claim=key, required_value=value) for key, value in oidc["oidc_required_claims"].items()
        ),
    )
    return checked(AuthenticationConfiguration(jwt=(one,)), own)


def _caller(path: Path | None) -> ReviewCaller | None:
    if path is None:
        return None
    try:
        return ReviewCaller(Kubeconfig(path))
    except KubeconfigError as error:
        raise click.ClickException(f"--authentication-token-webhook-config-file {error}") from error
