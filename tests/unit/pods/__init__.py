"""Unit tests of ``agents.pods``."""
