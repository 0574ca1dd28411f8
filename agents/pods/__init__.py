"""Pod workers: lifecycle, status, hooks.

Decides from observed containers and time; the engine, network and volumes are reached through their rooms.
"""
