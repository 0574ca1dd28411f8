"""``python -m tests.guest [--timeout SECONDS] COMMAND…``: run a command under the guest's kernel, to look around."""

from __future__ import annotations

import argparse
import sys

from tests.guest.guest import Guest, GuestError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.guest")
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        return Guest().run(arguments.command, timeout=arguments.timeout, line=lambda text: print(text, flush=True))
    except GuestError as error:
        print(error, file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
