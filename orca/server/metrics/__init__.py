"""What ``/metrics`` tells, under upstream's metric names and labels.

Numbers that change with every request are plain attributes here; they become metrics when somebody asks for them.
"""

from orca.server.metrics.cells import Gauge, Histogram
from orca.server.metrics.registry import Metrics
from orca.server.metrics.requests import Kind, WatchCounts

__all__ = ["Gauge", "Histogram", "Kind", "Metrics", "WatchCounts"]
