"""One ordered story of a workload: ``orca timeline``.

``story`` (pure) puts together what objects and events say, ``printing`` shows it. Objects are found and read as for
``orca why``.
"""
