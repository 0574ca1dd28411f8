"""One module a volume type, and the atomic writer.

Makes host paths ready; how containers mount them is decided in ``agents.pods``.
"""
