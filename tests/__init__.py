"""Tests by what they need: ``unit`` nothing, ``api`` an etcd and a server, ``cluster`` a lab. ``bench`` measures."""
