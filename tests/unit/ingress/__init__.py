"""Unit tests of ``orca.ingress``."""
