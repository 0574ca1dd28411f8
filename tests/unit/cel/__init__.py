"""Unit tests of ``orca.api.cel``."""
