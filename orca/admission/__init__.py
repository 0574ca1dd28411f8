"""What may be changed on the way in: one module a plugin.

Schema validation and defaults of one object alone belong to ``orca.api``.
"""
