"""Unit tests of ``orca.api.validation``."""
