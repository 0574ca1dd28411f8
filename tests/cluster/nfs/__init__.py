"""Volumes of an NFS server, mounted by a kernel that can: a guest with Debian's, and the kernel's own server in it.

``python -m tests.cluster.nfs`` runs in the guest: the real binder over the fake API, the agent's real volume manager
and reclaimer, the real ``mount.nfs``. It prints a line of JSON for each check.
"""
