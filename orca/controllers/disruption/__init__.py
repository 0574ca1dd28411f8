"""PodDisruptionBudgets: how many of the pods they cover may be evicted now.

The API server takes from `disruptionsAllowed` when it grants an eviction and notes the pod in `disruptedPods`; here the
count is brought in line with what really runs. `plan` counts, `controller` watches and writes.
"""

from orca.controllers.disruption.controller import DisruptionController

__all__ = ["DisruptionController"]
