"""Flags of ``orca server`` about running it: limits, deadlines, the audit log, how long Events live, how it ends."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from orca.cli.flags import Command, Duration, with_options
from orca.server.audit import Audit, AuditLog, PolicyInvalid, Rotation, load_policy
from orca.server.fairness import FairnessConfig

_file = click.Path(path_type=Path, dir_okay=False, exists=True)
_OPTIONS = (
    click.option(
        "--enable-priority-and-fairness",
        type=bool,
        default=True,
        help="Queue and shed requests by FlowSchemas and PriorityLevelConfigurations.",
    ),
    click.option(
        "--max-requests-inflight", type=click.IntRange(0), default=400, help="Reading requests at a time; 0: no limit."
    ),
    click.option(
        "--max-mutating-requests-inflight",
        type=click.IntRange(0),
        default=200,
        help="Writing requests at a time; 0: no limit. With priority and fairness, both together are its seats.",
    ),
    click.option("--request-timeout", type=Duration(), default="1m", help="A request that takes longer is ended."),
    click.option(
        "--min-request-timeout",
        type=click.IntRange(0),
        default=1800,
        help="Seconds after which a watch may be ended; up to twice as long, at random.",
    ),
    click.option("--event-ttl", type=Duration(), default="1h", help="How long Events are kept."),
    click.option(
        "--shutdown-delay-duration", type=Duration(), default="0s", help="Serve so long after being told to end."
    ),
    click.option("--audit-policy-file", type=_file, default=None, help="Policy (audit.k8s.io/v1): what is logged."),
    click.option("--audit-log-path", default="", help="File for audit events; - for standard output."),
    click.option(
        "--audit-log-maxsize", type=click.IntRange(0), default=100, help="Megabytes before it is rotated; 0: never."
    ),
    click.option("--audit-log-maxbackup", type=click.IntRange(0), default=100, help="Rotated files kept; 0: all."),
    click.option(
        "--audit-log-maxage", type=click.IntRange(0), default=366, help="Days rotated files are kept; 0: for ever."
    ),
)


def operation_options(command: Command) -> Command:
    """All of them on a click command; ``Operation.taken_from`` takes their values."""
    return with_options(command, _OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What these flags say. Durations in seconds."""

    enable_priority_and_fairness: bool
    max_requests_inflight: int
    max_mutating_requests_inflight: int
    request_timeout: float
    min_request_timeout: int
    event_ttl: float
    shutdown_delay_duration: float
    audit_policy_file: Path | None
    audit_log_path: str
    audit_log_maxsize: int
    audit_log_maxbackup: int
    audit_log_maxage: int

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> Operation:
        """Takes its values out of those of a command. Raises click.UsageError."""
        made = cls(**{field.name: values.pop(field.name) for field in fields(cls)})
        seats = made.max_requests_inflight + made.max_mutating_requests_inflight
        if made.enable_priority_and_fairness and not seats:
            raise click.UsageError(
                "--max-requests-inflight and --max-mutating-requests-inflight cannot both be 0 with priority and "
                "fairness; set one, or --enable-priority-and-fairness=false"
            )
        if made.audit_policy_file is not None and not made.audit_log_path:
            raise click.UsageError("--audit-policy-file needs --audit-log-path, where events are written to")
        if made.audit_log_path and made.audit_policy_file is None:
            raise click.UsageError("--audit-log-path needs --audit-policy-file, which says what is logged")
        if made.event_ttl < 1:
            raise click.UsageError("--event-ttl must be at least 1s")
        return made

    @property
    def fairness(self) -> FairnessConfig:
        """Limits of requests."""
        return FairnessConfig(
            enabled=self.enable_priority_and_fairness,
            reading=self.max_requests_inflight,
            writing=self.max_mutating_requests_inflight,
            queue_seconds=(self.request_timeout or 60.0) / 4,
        )

    def audit(self) -> Audit | None:
        """The audit log, opened. Raises click.ClickException for a policy or a file that cannot be used."""
        if self.audit_policy_file is None:
            return None
        try:
            policy = load_policy(self.audit_policy_file)
        except PolicyInvalid as error:
            raise click.ClickException(f"--audit-policy-file {self.audit_policy_file}: {error}") from error
        rotation = Rotation(self.audit_log_maxsize, self.audit_log_maxbackup, self.audit_log_maxage)
        log = AuditLog(self.audit_log_path, rotation)
        try:
            log.open()
        except OSError as error:
            raise click.ClickException(f"--audit-log-path {self.audit_log_path}: {error.strerror}") from error
        return Audit(policy, log)
