"""nf_tables over netlink, without the ``nft`` program: what a table is made of, as text and as the kernel reads it.

``wire.py``: attributes, messages, `Batch` (one transaction). ``statements.py``: what rules are written with; each knows
its text in nft's language and its code. ``sets.py``: sets, maps and their elements. ``kernel.py``: `Kernel`, the socket
that commits a batch, reads tables back, and hears of changes by others. A commit costs no process and reads nothing, so
that it takes as long as what it changes and not as long as what is there.
"""

from agents.network.nftables.kernel import Changes, Kernel, NftablesError
from agents.network.nftables.sets import Element, SetType
from agents.network.nftables.statements import Statement
from agents.network.nftables.wire import BaseChain, Batch

__all__ = ["BaseChain", "Batch", "Changes", "Element", "Kernel", "NftablesError", "SetType", "Statement"]
