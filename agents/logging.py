"""What the agent says about itself, on standard error: as text for people or as JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

LEVELS = ((4, logging.DEBUG), (0, logging.INFO))


def configure(verbosity: int, *, form: str = "text") -> None:
    """`verbosity` as a kubelet's `--v`: 4 and more is for debugging. `form` is `text` or `json`."""
    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *((structlog.processors.format_exc_info,) if form == "json" else ()),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
    )
    set_verbosity(verbosity)


def set_verbosity(verbosity: int) -> None:
    """From now on, everywhere."""
    level = next((level for least, level in LEVELS if verbosity >= least), logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
