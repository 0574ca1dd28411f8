"""Amounts of resources as people write them. Pure."""

from __future__ import annotations

_BINARY = (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))


def shown(resource: str, amount: int) -> str:
    """An amount as the scheduler counts it (cpu in thousandths, memory in bytes) in its usual unit: 1.5, 250m, 2Gi."""
    if resource == "cpu":
        return f"{amount / 1000:g}" if amount % 100 == 0 or amount > 10_000 else f"{amount}m"
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        for unit, size in _BINARY:
            if amount >= size:
                return f"{amount // size}{unit}" if amount % size == 0 else f"{amount / size:.4g}{unit}"
    return str(amount)
