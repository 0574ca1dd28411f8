"""What kubelet users may rely on, case by case after upstream's node conformance list, in this project's own words.

Dozens of pods run at once and share one wait: see :mod:`tests.cluster.conformance.runs`.
"""
