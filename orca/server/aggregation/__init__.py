"""API aggregation: group versions that other servers serve, reached through this one.

An APIService with ``spec.service`` says who serves a group version. ``apiservices`` knows them, ``backend`` reaches
them, ``proxying`` hands requests on, ``availability`` keeps their Available condition and their discovery,
``registration`` writes the APIServices of what is served here, ``merging`` and ``openapi`` put both together for
clients. Reference: k8s.io/kube-aggregator.
"""

from orca.server.aggregation.aggregator import Aggregator
from orca.server.aggregation.apiservices import ApiServices

__all__ = ["Aggregator", "ApiServices"]
