"""Who is it, and may they: authenticators, authorizers, PKI.

No HTTP here: credentials and actions come in as values.
"""
