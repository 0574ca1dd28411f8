"""What this host knows of one pod's way to a Service, for `orca trace`: looked up when asked, and by nobody else.

Only reads, and asks what the pod itself could ask; judges nothing: that is done where all hosts' answers are at hand.
"""

from agents.explain.pages import TracePages

__all__ = ["TracePages"]
