"""How every component of orca reads and writes the cluster: Client, Informer, WorkQueue, EventRecorder, LeaderElector.

Never here: knowledge of one kind, storage, HTTP serving, or decisions of a controller.
"""
