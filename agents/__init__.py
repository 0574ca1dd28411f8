"""The agent on every host: pods, probes, volumes, network, proxy, DNS, node.

Of ``orca`` it imports only ``orca.api`` and ``orca.client``.
"""

import sys

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # Logs are for files and journals. structlog would load rich and pygments, 4 MB, for tracebacks in colour.
    sys.modules["rich"] = None  # type: ignore[assignment]  # "cannot be imported", for as long as structlog is
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
