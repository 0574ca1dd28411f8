"""Pod workers: lifecycle, status, hooks.

Decides from observed containers and time; the engine, network and volumes are reached through their rooms.
"""

from agents.pods.manager import PodManager
from agents.pods.ports import ContainerRefs, PodsConfig, PodView

__all__ = ["ContainerRefs", "PodManager", "PodView", "PodsConfig"]
