"""etcd and the watch cache: the only room that talks to etcd.

Knows resources and bytes; never users, admission, HTTP or what a kind means.
"""
