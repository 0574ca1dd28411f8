"""CNI: pods are wired by plugins, programs that are told what to do in JSON (https://www.cni.dev/docs/spec/).

``configs.py`` reads what a directory says, ``plugins.py`` runs one program, ``chain.py`` all of a network,
``records.py`` remembers what was made for which pod, ``flannel.py`` stands in for flannel's own plugin. `CniNetwork`
(``network.py``) has the methods of `agents.network.PodNetwork`. Nothing here knows what a plugin does.
"""

from agents.network.cni.network import CniNetwork

__all__ = ["CniNetwork"]
