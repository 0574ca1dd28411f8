"""The host as a Node object: how it joins the cluster, registers, proves that it is alive and says how it is.

Never here: pods, containers, rules of the network. What others know (is the engine up, is the network wired) is asked
through small callables that `agents.cli` hands in.
"""
