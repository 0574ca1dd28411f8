"""Nonsense of all kinds: every answer is one a client can act on, and the server stays as it was."""
