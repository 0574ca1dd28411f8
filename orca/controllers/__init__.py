"""One module a controller: a pure plan and a thin apply.

Reads and writes through ``orca.client`` only.
"""
