"""All verbs on all kinds, without HTTP: used by the HTTP handlers and by the in-process client.

``Verbs`` is the whole interface; each verb has its module.
"""

from orca.server.verbs.core import Call, Core
from orca.server.verbs.deleting import Deleted
from orca.server.verbs.facade import Verbs
from orca.server.verbs.updating import Written

__all__ = ["Call", "Core", "Deleted", "Verbs", "Written"]
