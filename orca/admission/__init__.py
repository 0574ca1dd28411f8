"""What may be changed on the way in: one module a plugin.

Schema validation and defaults of one object alone belong to ``orca.api``.
"""

from orca.admission.chain import Attributes, Chain, Cluster
from orca.admission.default import default_chain

__all__ = ["Attributes", "Chain", "Cluster", "default_chain"]
