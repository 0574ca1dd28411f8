"""Unit tests of ``orca.api``."""
