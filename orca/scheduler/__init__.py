"""Places pods on nodes: queue, snapshot, filters, scores, explanation.

Reads and writes through ``orca.client`` only.
"""
