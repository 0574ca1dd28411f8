"""Unit tests of ``agents.dns``."""
