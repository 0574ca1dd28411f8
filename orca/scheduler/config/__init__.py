"""``KubeSchedulerConfiguration`` (kubescheduler.config.k8s.io/v1): a file in, profiles out.

Reference: k8s.io/kube-scheduler ``config/v1`` and its defaults and validation (facts). What orca's scheduler does not
have is refused by name; nothing is taken and ignored but what concerns kube-scheduler's own process, of which
`Configuration.unused` tells.
"""

from orca.scheduler.config.loading import Configuration, load
from orca.scheduler.config.reading import ConfigurationInvalid

__all__ = ["Configuration", "ConfigurationInvalid", "load"]
