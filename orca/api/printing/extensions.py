"""Kinds that extend the API itself: aggregated services and storage migrations."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing.columns import AGE, NAME, Cells, Obj, name, printer, spec, status, sub, text
from orca.api.printing.duration import since


@printer(
    "apiregistration.k8s.io",
    "APIService",
    NAME,
    text("Service", "The reference to the service that hosts this API endpoint."),
    text("Available", "Whether this service is available."),
    AGE,
)
def api_service(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get apiservices``."""
    service = spec(obj).get("service")
    shown = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    condition = next((c for c in status(obj).get("conditions") or () if c.get("type") == "Available"), None)
    available = "Unknown"
    if condition:
        available = condition.get("status") or ""
        if available != "True":
            available = f"{available} ({condition.get('reason') or ''})"
    return [name(obj), shown, available, since(obj["metadata"].get("creationTimestamp"), now)]


@printer("storagemigration.k8s.io", "StorageVersionMigration", NAME,
         text("Resource", "Fully qualified resource to migrate"))  # fmt: skip
def storage_version_migration(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get storageversionmigrations``."""
    resource = sub(obj, "spec", "resource") or {}
    parts = [resource.get("resource") or "", resource.get("version") or "", resource.get("group") or ""]
    return [name(obj), ".".join(part for part in parts if part)]
