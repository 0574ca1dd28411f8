"""Servers killed, stopped and started at random under workloads that change: what is observed is judged by rules.

`world.py` follows etcd itself, `rules.py` judges every revision, `ending.py` what is left in the end; none of them
knows code of controllers or scheduler. `kubelets.py` are hosts that only claim to run pods, `wishes.py` is who changes
what is wanted, `faults.py` who harms the servers.
"""
