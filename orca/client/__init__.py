"""How every component reads and writes: Client, Informer, WorkQueue, EventRecorder, LeaderElector.

No knowledge of kinds beyond the resource table.
"""
