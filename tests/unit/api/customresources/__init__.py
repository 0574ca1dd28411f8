"""Unit tests of ``orca.api.customresources``."""
