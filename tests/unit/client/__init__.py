"""Unit tests of ``orca.client``."""
