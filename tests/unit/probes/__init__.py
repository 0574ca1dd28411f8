"""Unit tests of ``agents.probes``."""
