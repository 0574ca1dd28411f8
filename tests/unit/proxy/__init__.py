"""Unit tests of ``agents.proxy``."""
