"""orca: the controller of the cluster. API machinery, store, server, controllers, scheduler, lab and CLI.

Hosts are driven by the separate package ``agents``, which this package never imports.
"""
