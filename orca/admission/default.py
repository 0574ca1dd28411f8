"""Which plugins run, in which order."""

from orca.admission.chain import Chain, Cluster
from orca.admission.namespace_lifecycle import NamespaceLifecycle


def default_chain(cluster: Cluster) -> Chain:
    """The plugins every server runs."""
    return Chain([NamespaceLifecycle(cluster)])
