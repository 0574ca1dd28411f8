"""Bridge, veth pairs, pod addresses, routes between hosts, host ports.

Services are ``agents.proxy``; names are ``agents.dns``.
"""
