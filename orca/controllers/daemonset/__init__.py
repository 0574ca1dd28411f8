"""DaemonSets: one pod on every node that takes it.

`placement` says which nodes do, `plan` what to create and delete, `controller` carries it out.
"""

from orca.controllers.daemonset.controller import DaemonSetController

__all__ = ["DaemonSetController"]
