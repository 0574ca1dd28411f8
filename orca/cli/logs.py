"""Logging of our long-running commands: one line an event on stderr, key=value, coloured on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logging(verbosity: int) -> None:
    """``verbosity`` as of Kubernetes components: 0 warnings, 2 normal, 4 and more debug."""
    level = logging.WARNING if verbosity < 1 else logging.INFO if verbosity < 4 else logging.DEBUG
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not terminal else structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer()
            if terminal
            else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
