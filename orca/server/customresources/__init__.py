"""Custom kinds in a running server: every server follows the definitions and serves their kinds.

``registry`` turns definitions into rows of the resource table, ``conversion`` calls conversion webhooks, ``controller``
decides about names and removes the objects of definitions that are being deleted.

What a definition means is ``orca.api.customresources``; verbs and HTTP know nothing of custom kinds.
"""

from orca.server.customresources.controller import DefinitionController
from orca.server.customresources.conversion import Converter
from orca.server.customresources.registry import CustomKinds

__all__ = ["Converter", "CustomKinds", "DefinitionController"]
