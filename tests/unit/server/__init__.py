"""Unit tests of ``orca.server``."""
