"""The ingress controller: Ingress objects become the configuration of an nginx that this process runs and watches over.

``settings`` and ``routing`` decide, purely, what is served; ``nginx``, ``locations`` and ``quoting`` write it down as
text; ``engine`` runs nginx and hands it configuration and endpoints; ``controller`` brings them together in a pod of
the cluster.
Never here: what an Ingress is (``orca.api``), how the cluster is reached (``orca.client``), rules of the kernel.
"""
