"""What the person who runs this host decided: a ``KubeletConfiguration`` file and its drop-ins.

Reads files and judges them; never acts on them. Each part of the agent is handed the values that concern it. A field of
kubelet.config.k8s.io/v1beta1 is honoured, or refused by name when it is set to other than its default
(``support.NOT_HONOURED``); nothing is accepted and ignored, but for what upstream itself documents as being without
effect.
"""

from agents.config.errors import ConfigurationError
from agents.config.files import encode, load, override
from agents.config.model import Configuration

__all__ = ["Configuration", "ConfigurationError", "encode", "load", "override"]
