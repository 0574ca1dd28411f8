"""Services on a host: a pure model of rules and the backends that write it into the kernel.

Pod addresses and routes belong to ``agents.network``.
"""
