"""CronJobs: a Job for each time of a schedule.

`schedule` is the calendar, `plan` decides without I/O, `controller` carries it out. Running the Jobs is not done here.
"""

from orca.controllers.cronjob.controller import CronJobController

__all__ = ["CronJobController"]
