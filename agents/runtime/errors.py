"""What can go wrong with the engine, named by what the caller should do.

The engine's own errors are translated once, in ``agents.runtime.engine``; nobody else looks at HTTP codes.
"""

from __future__ import annotations


class RuntimeFailure(Exception):
    """Base of everything this room raises; the text is the engine's own message, fit for an event."""


class EngineUnavailable(RuntimeFailure):
    """The engine does not answer (down, restarting, socket missing): try again when it is back."""


class EngineTimeout(RuntimeFailure):
    """The engine took longer than this call may: its outcome is unknown, observe before deciding."""


class NoSuchContainer(RuntimeFailure):
    """The container (or exec) is gone: treat as removed."""


class NoSuchImage(RuntimeFailure):
    """The image is not on this host: pull it."""


class NameTaken(RuntimeFailure):
    """A container of that name exists: adopt or remove it."""


class RefusedByEngine(RuntimeFailure):
    """The engine understood and will not (bad parameter, cannot start): retrying the same changes nothing."""


class InvalidReference(RuntimeFailure):
    """An image name that no registry can have; no pull was tried."""


class PullFailed(RuntimeFailure):
    """The registry said no or could not be reached: back off, then try again."""


class RegistryUnavailable(PullFailed):
    """The registry, or a proxy in front of it, says that it is down for now (502, 503, 504)."""
