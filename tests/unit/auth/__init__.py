"""Unit tests of ``orca.auth``."""
