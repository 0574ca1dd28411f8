"""Per-kind behaviour: importing this package registers every kind's strategy with ``orca.api.strategy``."""
