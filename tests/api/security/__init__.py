"""Who may do what, and what hostile clients get: a real server, real certificates and tokens."""
