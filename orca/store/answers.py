"""Between the API's terms and etcd's: keys, revisions, entries and errors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from orca.api import errors
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.store.cache import Bucket
from orca.store.entries import Entry, place
from orca.store.faults import Unreadable, told
from orca.store.outcomes import EtcdError, EtcdFenced, EtcdUnavailable, KeyValue
from orca.store.paging import ContinueExpired, Position

T = TypeVar("T")
Expected = tuple[str, str]
"""(uid or "", resourceVersion or ""): what the object must be for a write to happen."""


def too_old(revision: int, start: str, *, paging: bool) -> ApiError:
    """410; for a page with a token to go on from there at another revision."""
    if paging:
        return ContinueExpired(Position(revision, start))
    return errors.expired(f"The resourceVersion for the provided list is too old: {revision}")


def as_api_error(error: EtcdError) -> ApiError:
    """etcd's failure as the API tells it."""
    if isinstance(error, EtcdUnavailable):
        if "Deadline" in str(error):
            return errors.timeout(f"request did not complete within requested timeout - {error}", retry_after=1)
        return errors.service_unavailable(str(error))
    if isinstance(error, EtcdFenced):
        return errors.service_unavailable(str(error))
    if "request is too large" in str(error) or "message larger than max" in str(error):
        return errors.too_large(1_572_864)
    return errors.internal(str(error))


async def asked(request: Awaitable[T]) -> T:
    """The answer of etcd. Raises ApiError."""
    try:
        return await request
    except EtcdError as error:
        raise as_api_error(error) from error


def key_of(resource: Resource, namespace: str, name: str) -> bytes:
    """Where an object is stored in etcd."""
    return (f"{resource.storage}/{namespace}/{name}" if namespace else f"{resource.storage}/{name}").encode()


def entry_of(resource: Resource, pair: KeyValue) -> Entry:
    """Raises ApiError 500 for a value that cannot be read."""
    key = pair.key.decode()[len(resource.storage) + 1 :]
    namespace, _, name = key.rpartition("/")
    try:
        return Entry(namespace, name, pair.revision, None, place(pair.value, pair.revision))
    except Unreadable as error:
        raise errors.internal(told(pair.key.decode(), str(error))) from error


def unreadable(bucket: Bucket, key: str) -> ApiError:
    """500 for an object whose stored value makes no sense."""
    return errors.internal(told(f"{bucket.storage}/{key}", bucket.faults[key]))


def check_expected(resource: Resource, current: Entry, expected: Expected | None) -> None:
    """Raises ApiError 409 when `current` is not what was expected."""
    if expected is None:
        return
    uid, version = expected
    metadata = current.obj["metadata"]
    if uid and uid != metadata.get("uid"):
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata.get('uid')}"
        raise errors.conflict(resource, current.name, why)
    if version and version != str(current.revision):
        raise errors.conflict(resource, current.name)


_VERSION_DIGITS = 20  # of 2^64


def revision_of(text: str) -> int:
    """The number in a resourceVersion, 0 for "". Raises ApiError 400."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > _VERSION_DIGITS:
        why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise errors.bad_request(f'resourceVersion: Invalid value: "{text}": {why}')
    return int(text)
