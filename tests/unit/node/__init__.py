"""Unit tests of ``agents.node``."""
