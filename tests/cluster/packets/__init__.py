"""The packet table: every way into a service from every place, by real connections, for each way of writing rules.

``topology`` the hosts, pods and the outside as network namespaces, ``services`` the objects of the API, ``oracle`` what
kube-proxy's documented behaviour promises for each connection, ``connections`` makes them, ``host`` writes the rules.
``python -m tests.cluster.packets MODE…`` runs the table, here or in a guest, and prints a line of JSON a mode.
"""
