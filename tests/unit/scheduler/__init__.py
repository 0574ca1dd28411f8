"""Unit tests of ``orca.scheduler``."""
