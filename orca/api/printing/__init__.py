"""Table columns and cells of every kind, as ``kubectl get`` prints them.

Pure: the time that ages are counted from is passed in.
"""
