"""Docker Engine behind one seam: sandboxes, containers, images, exec, logs, events.

The only room that talks to the engine; it knows containers, not pods' lifecycles.
"""

from agents.runtime.runtime import Runtime

__all__ = ["Runtime"]
