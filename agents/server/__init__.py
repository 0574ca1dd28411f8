"""The agent's HTTPS server on :10250: logs, exec, attach, port-forward, pods, health, as a kubelet serves them.

`spdy` holds protocol state without I/O, `spdy_session` moves its bytes; `websocket` and `remote` are what a command's
streams look like in either protocol. Never here: how a container is run, or what a pod is.
"""
