"""The agent on every host: pods, probes, volumes, network, proxy, DNS, node.

Of ``orca`` it imports only ``orca.api`` and ``orca.client``.
"""
