"""The clients of ``orca.client`` against a real server, also while it or its etcd dies."""
