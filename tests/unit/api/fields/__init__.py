"""Unit tests of ``orca.api.fields``."""
