"""Unit tests of ``agents.runtime``."""
