"""NetworkPolicies on a host: what each pod of this host admits, purely, and the packet rules that see to it.

    model.py      policies and pods as this room knows them, read from API objects
    verdict.py    may this connection be? judged from the model alone, with the reasons
    ruleset.py    what the kernel shall have: one chain for each distinct set of policies, shared by its pods
    addresses.py  the sets of addresses that chains refer to;  peers.py  what is in them, kept up change by change
    render.py     the ruleset, and differences between two, as text for nft
    kernel.py     nft itself;  integrity.py  is the table still as it was written?  shortcut.py  the way past it
    local.py      pods of this host;  cluster.py  of the whole cluster, while a rule needs them
    keeper.py     `NetworkPolicies`: follows the API, writes differences, heals, guards pods that start

The tables are ``inet orca-policy`` and ``bridge orca-policy`` and nobody else's. Services are ``agents.proxy``;
addresses are ``agents.network``.
"""
