"""Unit tests of ``agents.server``."""
