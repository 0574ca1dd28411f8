"""What to do when the host runs short of memory, disk, inodes or process ids, and when a pod uses more local
storage than it may.

Here: thresholds, the plan of what is to be reclaimed (pure), and the loop that carries it out. Never here: measuring
(`agents.stats`), ending a pod (`agents.pods`), removing images (`agents.images`).
Reference: k8s.io/kubernetes ``pkg/kubelet/eviction``.
"""
