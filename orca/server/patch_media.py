"""Media types of patches."""

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
BY_KIND = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC_PATCH, "apply": APPLY_PATCH}
PLAIN = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)
"""Patches of what is there; apply is another verb on the same door."""
ACCEPTED = (*PLAIN, APPLY_PATCH)
