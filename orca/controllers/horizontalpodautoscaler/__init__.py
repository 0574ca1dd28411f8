"""HorizontalPodAutoscaler: as many replicas as what they use asks for.

``readings`` and ``replicas`` lead from measured values to a count, ``behavior`` bounds how fast it is reached, ``plan``
decides, ``measuring`` asks metrics APIs, ``controller`` runs it all.
"""

from orca.controllers.horizontalpodautoscaler.controller import HorizontalPodAutoscalerController

__all__ = ["HorizontalPodAutoscalerController"]
