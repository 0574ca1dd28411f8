"""Runs commands under another kernel: a QEMU guest that sees this machine's files, for what this kernel has not got."""

from tests.guest.guest import Guest, GuestError, unavailable

__all__ = ["Guest", "GuestError", "unavailable"]
