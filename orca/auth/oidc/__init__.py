"""Users of other issuers: OpenID Connect, as ``--oidc-*`` flags or an ``AuthenticationConfiguration`` describe it.

    text → ``config`` (strict) → ``validation`` (field errors, compiled expressions) → ``issuer`` (one a ``jwt`` entry)

``tokens`` judges a token by what it says, ``keys`` by its signature, ``mapping`` makes a user of its claims, and
``distributed`` fetches claims that are kept elsewhere. ``configured`` holds all issuers and exchanges them when the
file changes.

Nothing of HTTP requests to this server is known here. What nobody uses costs nothing: no expression, no CEL.
"""

from orca.auth.oidc.config import AuthenticationConfiguration, ConfigInvalid
from orca.auth.oidc.configured import Issuers, load
from orca.auth.oidc.metrics import JwtMetrics

__all__ = ["AuthenticationConfiguration", "ConfigInvalid", "Issuers", "JwtMetrics", "load"]
