"""A store's cached side in memory."""

from datetime import UTC, datetime

from orca.api.errors import not_found
from orca.api.objects import meta, name, namespace


class Reader:
    """Objects by kind; ``put`` and ``drop`` count as changes."""

    def __init__(self):
        self.objects = {}
        self.revision = 1
        self.changed = {}

    def put(self, resource, obj):
        self.objects.setdefault(resource, {})[namespace(obj), name(obj)] = obj
        self.revision += 1
        self.changed[resource] = self.revision
        return obj

    def drop(self, resource, space, who):
        del self.objects[resource][space, who]
        self.revision += 1
        self.changed[resource] = self.revision

    async def fresh(self):
        pass

    def peek(self, resource, space, who):
        return self.objects.get(resource, {}).get((space, who))

    def peek_list(self, resource, space="", *, hint=None):
        found = [o for (s, _), o in sorted(self.objects.get(resource, {}).items()) if not space or s == space]
        if hint:
            found = [o for o in found if (o.get("spec") or {}).get("nodeName") == hint[1]]
        return found

    def last_change(self, resource):
        return self.changed.get(resource, 0)

    async def get(self, resource, space, who):
        found = self.peek(resource, space, who)
        if found is None:
            raise not_found(resource, who)
        return type("Entry", (), {"obj": found})


class FixedClock:
    """Stands still until told otherwise."""

    def __init__(self):
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self):
        return self.time

    def monotonic(self):
        return self.time.timestamp()

    async def sleep(self, seconds):
        raise AssertionError("nothing here sleeps")


def made(api_version, kind, who, space="", **fields):
    obj = {"apiVersion": api_version, "kind": kind, "metadata": {"name": who, "uid": f"uid-{who}"}, **fields}
    if space:
        meta(obj)["namespace"] = space
    return obj
