"""API priority and fairness: which request runs now, which waits, and which is turned away.

Requests are sorted into flows by FlowSchemas and into priority levels by PriorityLevelConfigurations, as
kube-apiserver does it. Knows users, verbs and targets; never what an object means. What is particular to one asyncio
process lives in ``turns``: there a request that computes keeps everybody waiting, whatever seats are free.
"""

from orca.server.fairness.classify import Flow, Schema
from orca.server.fairness.fairness import Fairness, FairnessConfig
from orca.server.fairness.levels import Level

__all__ = ["Fairness", "FairnessConfig", "Flow", "Level", "Schema"]
