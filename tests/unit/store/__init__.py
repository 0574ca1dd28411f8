"""Unit tests of ``orca.store``."""
