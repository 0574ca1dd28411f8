"""How long and how many connections the kernel remembers: kube-proxy's defaults, which programs in pods count on.

The kernel's own forget a connection that one side has closed after a minute. Reference: k8s.io/kubernetes
``cmd/kube-proxy/app`` conntrack, and ``pkg/proxy/apis/config`` for the values.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

log = structlog.get_logger()

SETTINGS = Path("/proc/sys/net/netfilter")
BUCKETS = Path("/sys/module/nf_conntrack/parameters/hashsize")
SECONDS = {"nf_conntrack_tcp_timeout_established": 24 * 3600, "nf_conntrack_tcp_timeout_close_wait": 3600}
MIN_CONNECTIONS = 131072
CONNECTIONS_OF_A_CORE = 32768


def keep_connections(settings: Path = SETTINGS, buckets: Path = BUCKETS, cores: int | None = None) -> None:
    """Set the times, and raise the number where it is smaller. Once the first rule that looks at connections is in the
    kernel, so that it has these settings. What a host does not allow is logged."""
    for name, seconds in SECONDS.items():
        if _read(settings / name) not in (None, seconds):
            _write(settings / name, seconds)
    most = max(MIN_CONNECTIONS, CONNECTIONS_OF_A_CORE * (cores or os.cpu_count() or 1))
    now = _read(settings / "nf_conntrack_max")
    # Of the host as a whole: a network namespace inside it may not.
    if now is not None and now < most and os.access(settings / "nf_conntrack_max", os.W_OK):
        _write(settings / "nf_conntrack_max", most)
        if (_read(buckets) or most) < most // 4:
            _write(buckets, most // 4)


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        log.warning("a setting of connection tracking stays as it is", path=str(path), wanted=value, error=str(error))
