"""Why a pod, or the pods of a workload, do not run: ``orca why``.

``placement`` puts the pod to every rule of the scheduler on every node and says by how much it falls short,
``waiting`` reads what a pod that has a node waits for, ``workload`` what keeps a workload from having its pods; all
pure. ``gather`` asks the API, ``printing`` shows.
"""
