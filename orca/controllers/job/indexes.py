"""Completion indexes as the status writes them: `1,3-5,7`. Pure."""

from collections.abc import Iterable

from orca.api.objects import Obj, annotations

INDEX = "batch.kubernetes.io/job-completion-index"


def parse(text: str | None, below: int) -> set[int]:
    """The indexes of an interval list that are lower than `below`; what cannot be read is left out."""
    found: set[int] = set()
    for piece in (text or "").split(","):
        first, dash, last = piece.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            end = int(last) if dash else int(first)
            found.update(range(int(first), min(end + 1, below)))
    return found


def show(indexes: Iterable[int]) -> str:
    """Interval list; two neighbours are written `1,2`, three `1-3`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}" for first, last in runs
    )


def index_of(pod: Obj) -> int | None:
    """The pod's completion index; None when it has none that can be read."""
    text = annotations(pod).get(INDEX, "")
    return int(text) if text.isdigit() else None
