"""Custom kinds: what a CustomResourceDefinition says, and what follows from it for the objects of its kind. Pure.

``definition`` judges definitions, ``naming`` decides about their names, ``rows`` turns them into rows of the resource
table, ``kind`` gives those rows their behaviour: decoding (``pruning``, ``embedded``), ``defaulting``, validation
(``values``, ``lists``), columns (``columns``, ``jsonpath``), versions (``review``).

Never here: reading or writing objects, calling conversion webhooks, the resource table itself.
"""
