"""The agent's HTTPS: logs, exec, attach, port-forward, health.

The API server is its only client; it decides nothing about pods.
"""
