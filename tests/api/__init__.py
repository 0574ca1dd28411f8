"""A real etcd and a real ``orca server`` on loopback: what clients see."""
