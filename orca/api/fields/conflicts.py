"""The 409 of an apply that would change what others own."""

from __future__ import annotations

from orca.api.errors import ApiError, quote
from orca.api.fields.managers import UPDATE, Entry
from orca.api.fields.sets import FieldSet, members, shown
from orca.api.objects import Obj


def error(found: list[tuple[Entry, FieldSet]], told_as: str = "") -> ApiError:
    """One cause for each field and manager, ordered by manager and path; ``told_as`` replaces their versions."""
    by_manager = {
        _described(entry, told_as): sorted(shown(path) for path in members(fields))
        for entry, fields in sorted(found, key=lambda one: _described(one[0], told_as))
    }
    causes: list[Obj] = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, paths in by_manager.items()
        for path in paths
    ]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = []
        for manager, paths in by_manager.items():
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {path}" for path in paths]
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, {"causes": causes})


def _described(entry: Entry, told_as: str) -> str:
    text = quote(entry.get("manager", ""))
    if entry.get("subresource"):
        text += f" with subresource {quote(entry['subresource'])}"
    if entry["operation"] == UPDATE:
        # The identity of an updater knows its version, but not its time.
        text += f" using {told_as or entry.get('apiVersion', '')}"
    return text
