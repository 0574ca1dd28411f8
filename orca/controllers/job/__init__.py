"""Jobs: pods until enough of them have succeeded, each of them counted exactly once.

`plan` decides on one job and its pods without I/O, `controller` carries it out; `indexes`, `policy` and `pods` are the
arithmetic, the rules users write and the making of pods. Nothing here knows about schedules.
"""

from orca.controllers.job.controller import JobController

__all__ = ["JobController"]
