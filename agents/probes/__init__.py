"""Liveness, readiness and startup probes: schedule, thresholds, and one module a handler.

Results are reported; what follows from them is decided in ``agents.pods``.
"""
