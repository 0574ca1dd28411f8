"""Static pods: pods that a file or a URL of this host asks for, run without the API and shown in it as mirror pods.

``feed.PodFeed`` is this host's pods of all sources, as the pods room takes them. Nothing here starts or ends a
container.
Nothing is imported here: ``judging`` starts as a process of its own, and must be quick.
"""
