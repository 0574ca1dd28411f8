"""An explanation for people (coloured on a terminal, plain in a pipe) and for programs (JSON)."""

from __future__ import annotations

from dataclasses import asdict

import orjson
from rich.console import Console
from rich.text import Text

from orca.explain.why.findings import Explanation, Finding, Placement

SHOWN_NODES = 10
_PROBLEM = ("problem", "bold red")


def show(console: Console, told: Explanation, depth: int = 0) -> None:
    """State and cause first, then all that is in the way, and at the end the smallest change."""
    pad, cause = "  " * depth, told.cause
    because = (": ", (cause, "cyan" if told.waits else "bold red")) if cause else ()
    console.print(Text.assemble(pad, (told.title, "bold"), f": {told.state}", *because), soft_wrap=True)
    if told.is_well:
        console.print(Text(f"{pad}  nothing is in its way", style="green"), soft_wrap=True)
        return
    for finding in told.findings:
        _finding(console, finding, pad, said=finding.says == cause)
    if told.placement is not None and told.placement.nodes:
        _placement(console, told.placement, pad)
    for one in told.below:
        show(console, one, depth + 1)


def _finding(console: Console, finding: Finding, pad: str, *, said: bool) -> None:
    if not said:
        mark = ("waits  ", "cyan") if finding.waits else ("so     ", "dim") if finding.follows else _PROBLEM
        console.print(Text.assemble(f"{pad}  ", mark, f"  {finding.says}"), soft_wrap=True)
    for line in finding.details:
        console.print(Text(f"{pad}           {line}", style="dim"), soft_wrap=True)
    if finding.fix:
        console.print(Text.assemble(f"{pad}           ", ("fix: ", "bold"), finding.fix), soft_wrap=True)


def _placement(console: Console, placement: Placement, pad: str) -> None:
    best = placement.smallest_change
    nodes = sorted(placement.nodes, key=lambda one: (one.effort, one.node))
    console.print(
        Text(f"{pad}  {len(nodes)} of {len(nodes) + len(placement.fits)} nodes do not take it:"), soft_wrap=True
    )
    for verdict in nodes[:SHOWN_NODES]:
        for place, obstacle in enumerate(verdict.obstacles):
            shown = verdict.node if not place else ""
            line = Text.assemble(f"{pad}    {shown:<16} ", (f"{obstacle.rule:<20}", "yellow"), obstacle.says)
            console.print(line, soft_wrap=True)
    if len(nodes) > SHOWN_NODES:
        console.print(Text(f"{pad}    … and {len(nodes) - SHOWN_NODES} more (all with -o json)", style="dim"))
    if best is not None:
        console.print(Text(f"{pad}  smallest change, so that {best.node} takes it:", style="bold"), soft_wrap=True)
        for obstacle in best.obstacles:
            console.print(Text(f"{pad}    {obstacle.fix or obstacle.says}"), soft_wrap=True)


def as_json(told: Explanation) -> bytes:
    return orjson.dumps(_document(told), option=orjson.OPT_INDENT_2)


def _document(told: Explanation) -> dict[str, object]:
    found: dict[str, object] = {
        "object": told.title,
        "state": told.state,
        "cause": told.cause,
        "well": told.is_well,
        "findings": [asdict(one) for one in told.findings],
    }
    if told.placement is not None:
        best = told.placement.smallest_change
        found["nodes"] = [asdict(one) for one in told.placement.nodes]
        found["fits"] = list(told.placement.fits)
        found["smallestChange"] = asdict(best) if best is not None else None
    if told.below:
        found["pods"] = [_document(one) for one in told.below]
    return found
