"""Per-kind behaviour: importing this package registers every kind's strategy with ``orca.api.strategy``.

Defaults, validation and name rules are found by kind in their own packages; what a kind's create and update
prepare, and how it is deleted, is in the modules here.
"""

from orca.api import defaults, validation
from orca.api.builtin import BUILTIN
from orca.api.strategies import core, pods, statuses, workloads
from orca.api.strategy import register

__all__ = ["core", "pods", "statuses", "workloads"]

for _row in BUILTIN:
    register(
        _row,
        defaults=defaults.of(_row),
        validate_create=validation.create_of(_row),
        validate_update=validation.update_of(_row),
        name_rule=validation.name_rule_of(_row),
    )
