"""NetworkPolicies on a host: what each pod of this host admits, purely, and the packet rules that see to it.

    model.py    policies and pods as this room knows them, read from API objects
    verdict.py  may this connection be? judged from the model alone, with the reasons
    peers.py    which addresses the selectors of rules mean, kept up change by change
    ruleset.py  what the kernel shall have: one chain for each distinct set of policies, shared by its pods
    render.py   the ruleset, and differences between two, as text for nft
    kernel.py   nft itself
    keeper.py   `NetworkPolicies`: follows the API, writes differences, heals, guards pods that start

The table is ``inet orca-policy`` and nobody else's. Services are ``agents.proxy``; addresses are ``agents.network``.
"""
