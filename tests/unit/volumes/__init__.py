"""Unit tests of ``agents.volumes``."""
