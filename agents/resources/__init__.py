"""What this host's kernel is told about pods: the tree of cgroups by quality of service, its limits, exclusive cpus.

Numbers are computed purely (``quality``, ``amounts``, ``limits``, ``cpus``, ``reservations``); ``tree`` writes files,
``slices`` speaks to systemd, ``usage`` reads what was used. Never here: which pods run, and calls to the engine.
"""
