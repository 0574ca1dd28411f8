"""Semantic validation of every kind, with upstream's field paths and messages.

Types are checked by ``orca.api.schema`` before; what depends on other objects belongs to ``orca.admission``.
"""
