"""Unit tests of ``orca.controllers``."""
