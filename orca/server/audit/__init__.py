"""The audit log: who asked for what, when, and what came of it, as far as a policy wants to know.

Without a policy nothing here is made or called. Knows requests and answers; never decides about them.
"""

from orca.server.audit.log import AuditLog, Rotation
from orca.server.audit.policy import Level, Policy, PolicyInvalid, load_policy
from orca.server.audit.record import Audit, Record

__all__ = ["Audit", "AuditLog", "Level", "Policy", "PolicyInvalid", "Record", "Rotation", "load_policy"]
