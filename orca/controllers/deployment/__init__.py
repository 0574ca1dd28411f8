"""Deployments: a new ReplicaSet for every pod template, and the change from the old ones to it.

`sizes` is the arithmetic of rollouts on plain numbers, `revisions` the ReplicaSets' names, hashes and annotations,
`status` the counters and conditions, `plan` puts them together, `controller` carries the plan out.
"""

from orca.controllers.deployment.controller import DeploymentController

__all__ = ["DeploymentController"]
