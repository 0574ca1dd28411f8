"""Many hosts on one machine: network namespaces, each with its own Docker Engine and agent.

Starts ``orca`` and ``orca-agent`` as commands; nothing of the cluster is decided here.
"""
