"""Unit tests of ``orca.lab``."""
