"""``python -m orca.cli``: the command where no script of its name is installed."""

from orca.cli import main

main()
