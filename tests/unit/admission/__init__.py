"""Unit tests of ``orca.admission``."""
