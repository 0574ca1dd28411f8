"""Unit tests of ``agents.network``."""
