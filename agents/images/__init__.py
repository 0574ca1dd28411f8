"""Images of this host beyond one pod: pulls in their turn, who may use what was pulled, what is reported of them, what
is thrown away when space gets short, and images mounted as volumes.

What a pod's container is told of its image (pull policy, back-off, events) is in ``agents.pods.images``. Nothing here
speaks HTTP to the engine: that is ``agents.runtime``.
"""
