"""Flags of ``orca server`` about who may do what: the authorizers, in order, or the file that configures them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from orca.auth.authorization import MODES
from orca.auth.authorization_config import WEBHOOK, AuthorizationConfig, ConfigInvalid, of_modes, parse_config
from orca.auth.webhook import Settings
from orca.auth.webhook.review import VERSIONS
from orca.cli.flags import Command, Duration, with_options

_file = click.Path(path_type=Path, dir_okay=False, exists=True)
_DEFAULT_MODES = "Node,RBAC"
_OPTIONS = (
    click.option(
        "--authorization-mode",
        default=None,
        show_default=_DEFAULT_MODES,
        help=f"Authorizers, in order: {', '.join(MODES)}.",
    ),
    click.option(
        "--authorization-webhook-config-file",
        type=_file,
        default=None,
        help="Kubeconfig of the program that the authorizer Webhook asks.",
    ),
    click.option(
        "--authorization-webhook-version",
        type=click.Choice(VERSIONS),
        default=None,
        show_default="v1beta1",
        help="Version of the SubjectAccessReview that it is sent.",
    ),
    click.option(
        "--authorization-webhook-cache-authorized-ttl",
        type=Duration(),
        default=None,
        show_default="5m",
        help="How long it is remembered that it allowed something.",
    ),
    click.option(
        "--authorization-webhook-cache-unauthorized-ttl",
        type=Duration(),
        default=None,
        show_default="30s",
        help="How long it is remembered that it did not.",
    ),
    click.option(
        "--authorization-config",
        type=_file,
        default=None,
        help="AuthorizationConfiguration (apiserver.config.k8s.io/v1), instead of the other flags of this kind; "
        "used anew when it changes.",
    ),
)


def authorization_options(command: Command) -> Command:
    """All of them on a click command; ``Authorizing.taken_from`` takes their values."""
    return with_options(command, _OPTIONS)


@dataclass(frozen=True, slots=True)
class Authorizing:
    """What these flags say; ``file`` and its ``content`` where the configuration comes from one."""

    config: AuthorizationConfig
    file: Path | None = None
    content: bytes = b""

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> Authorizing:
        """Takes its values out of those of a command. Raises click.UsageError, ClickException for a wrong file."""
        file = values.pop("authorization_config")
        legacy = {name: values.pop(name) for name in list(values) if name.startswith("authorization_")}
        if file is None:
            return cls(_of_flags(legacy))
        if any(value is not None for value in legacy.values()):
            raise click.UsageError(
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* "
                "flags are defined"
            )
        try:
            content = file.read_bytes()
            return cls(parse_config(content), file, content)
        except OSError as error:
            raise click.ClickException(f"--authorization-config {file}: {error.strerror}") from error
        except ConfigInvalid as error:
            raise click.ClickException(f"--authorization-config {file}: {error}") from error

    @property
    def followed(self) -> tuple[Path, bytes] | None:
        """The file to follow, and its content that is in use."""
        return None if self.file is None else (self.file, self.content)


def _of_flags(values: dict[str, Any]) -> AuthorizationConfig:
    """Raises click.UsageError."""
    text = values["authorization_mode"]
    modes = [part.strip() for part in (_DEFAULT_MODES if text is None else text).split(",") if part.strip()]
    if not modes:
        raise click.UsageError("at least one --authorization-mode must be passed")
    for mode in modes:
        if mode not in MODES:
            raise click.UsageError(f'--authorization-mode "{mode}" is not a valid mode; known are {", ".join(MODES)}')
    if len(set(modes)) < len(modes):
        raise click.UsageError(f"--authorization-mode {','.join(modes)} has a mode specified more than once")
    kubeconfig = values["authorization_webhook_config_file"]
    if kubeconfig is None:
        if WEBHOOK in modes:
            raise click.UsageError("--authorization-mode Webhook needs --authorization-webhook-config-file")
        return of_modes(modes)
    if WEBHOOK not in modes:
        raise click.UsageError("cannot specify --authorization-webhook-config-file without mode Webhook")
    allowed = values["authorization_webhook_cache_authorized_ttl"]
    refused = values["authorization_webhook_cache_unauthorized_ttl"]
    settings = Settings(
        name="default",
        kubeconfig=kubeconfig,
        allowed_ttl=300.0 if allowed is None else allowed,
        refused_ttl=30.0 if refused is None else refused,
        version=values["authorization_webhook_version"] or "v1beta1",
    )
    return of_modes(modes, settings)
