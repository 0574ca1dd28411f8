"""Who is it, and may they: authenticators, authorizers, PKI.

No HTTP here: credentials and actions come in as values.
"""

from orca.auth.authentication import Authenticator, StaticTokens
from orca.auth.authorization import Authorizer, build_authorizer
from orca.auth.identity import Action, Credentials, Decision, Reader, UserInfo

__all__ = [
    "Action",
    "Authenticator",
    "Authorizer",
    "Credentials",
    "Decision",
    "Reader",
    "StaticTokens",
    "UserInfo",
    "build_authorizer",
]
