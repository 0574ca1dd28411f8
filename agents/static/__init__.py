"""Static pods: pods that a file or a URL of this host asks for, run without the API and shown in it as mirror pods.

``PodFeed`` is this host's pods of all sources, as the pods room takes them. Nothing here starts or ends a container.
"""

from agents.static.feed import PodFeed
from agents.static.sources import FileSource, Source, UrlSource

__all__ = ["FileSource", "PodFeed", "Source", "UrlSource"]
