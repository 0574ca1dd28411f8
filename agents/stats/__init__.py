"""What pods and the host use of cpu, memory, disk, network and process ids, and how kubelet users are told.

Here: asking `agents.resources.usage`, statvfs and directory sizes when somebody asks; the summary API and the
Prometheus pages made of them. Never here: a decision about anything (`agents.eviction` decides), a loop of its own, a
call that starts or stops something.
"""
