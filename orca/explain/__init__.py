"""Answers to people's questions about a cluster, read from it and judged here; nothing is changed, nothing guessed.

``trace``: why a pod does not reach a Service. ``why``: why a pod or a workload does not run. ``timeline``: what has
happened to it.
"""
