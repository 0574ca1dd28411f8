"""An explanation for people (coloured on a terminal, plain in a pipe) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.text import Text

from orca.api.objects import key
from orca.explain.trace.explain import first_break
from orca.explain.trace.facts import Facts
from orca.explain.trace.steps import Outcome, Step

_MARKS = {
    Outcome.OK: ("ok", "green"),
    Outcome.NOTE: ("note", "cyan"),
    Outcome.UNKNOWN: ("?", "yellow"),
    Outcome.BROKEN: ("BROKEN", "bold red"),
}


def show(console: Console, facts: Facts, steps: tuple[Step, ...]) -> None:
    """One line a step, what belongs to it below, and at the end where it breaks."""
    console.print(Text(f"{key(facts.pod)} -> {facts.wish}", style="bold"), soft_wrap=True)
    for step in steps:
        mark, style = _MARKS[step.outcome]
        line = Text.assemble((f"{mark:<7}", style), f"{step.stage:<11}", step.says)
        console.print(line, soft_wrap=True)
        for text in _below(step):
            console.print(Text(f"{'':18}{text}", style="dim"), soft_wrap=True)
    console.print(Text(_verdict(steps), style="bold"), soft_wrap=True)
    worst = first_break(steps)
    if worst is not None:
        console.print(Text(f"  why: {worst.why}"), soft_wrap=True)
        console.print(Text(f"  fix: {worst.fix}"), soft_wrap=True)


def as_json(facts: Facts, steps: tuple[Step, ...]) -> bytes:
    worst = first_break(steps)
    document = {
        "pod": key(facts.pod),
        "service": str(facts.wish),
        "broken": worst.stage if worst else None,
        "why": worst.why if worst else "",
        "fix": worst.fix if worst else "",
        "steps": [asdict(step) for step in steps],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _below(step: Step) -> Iterable[str]:
    if step.why:
        yield f"why: {step.why}"
    if step.fix:
        yield f"fix: {step.fix}"
    yield from step.details


def _verdict(steps: tuple[Step, ...]) -> str:
    worst = first_break(steps)
    if worst is not None:
        return f"It breaks at {worst.stage}: {worst.says}"
    unknown = [step.stage for step in steps if step.outcome is Outcome.UNKNOWN]
    if unknown:
        return f"Nothing is found to be broken; not known: {', '.join(unknown)}"
    return "Nothing is broken."
