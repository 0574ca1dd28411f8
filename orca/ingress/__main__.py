"""Prints a self-signed pair: run as a process of its own, so that what it loads does not stay in memory."""

import sys

from orca.client.clock import SystemClock
from orca.ingress.certificates import self_signed

if __name__ == "__main__":
    sys.stdout.buffer.write(self_signed(SystemClock()))
