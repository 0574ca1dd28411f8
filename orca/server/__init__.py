"""HTTP: discovery, OpenAPI, verbs, watch streams, subresources, splicing to agents.

Never what a controller or the scheduler decides.
"""
