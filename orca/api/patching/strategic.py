"""Strategic merge patch: a merge patch that knows which lists are keyed.

Maps merge; lists replace unless the schema's patch strategy is ``merge``, then their items are matched by the merge key
(or, for scalars, by value). Directives in the patch: ``$patch`` (``replace``, ``merge``, ``delete``) in a map or list
item, ``$retainKeys`` in a map, ``$deleteFromPrimitiveList/<field>`` and ``$setElementOrder/<field>`` beside a field.
Reference: k8s.io/apimachinery ``util/strategicpatch`` and its design note.
"""

from typing import Any

from orca.api.errors import bad_request
from orca.api.objects import Obj, thaw
from orca.api.patching.failures import as_go, unappliable
from orca.api.patching.order import comparable, reorder
from orca.api.schema import SCHEMA, Field

PATCH = "$patch"
RETAIN = "$retainKeys"
DELETE_FROM = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"


def strategic_merge(definition: str, obj: Obj, patch: Any) -> Obj:
    """``obj`` (of that schema definition) with ``patch`` merged in. Raises ApiError 400 or 422."""
    if not isinstance(patch, dict):
        raise bad_request("invalid strategic merge patch: must be a JSON object")
    return _merge_map(SCHEMA.struct(definition), thaw(obj), thaw(patch))


def _field(parent: Field, key: str) -> Field:
    # Unknown fields merge like a plain merge patch; decoding names them afterwards.
    return SCHEMA.child(parent, key) or Field("open", {})


def _merge_map(field: Field, original: Obj, patch: Obj) -> Obj:
    """Merges in place; both are ours."""
    directive = patch.pop(PATCH, None)
    if directive == "replace":
        return _clean(patch)
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type: {directive}")
    _retain(original, patch)
    orders = {key.removeprefix(ORDER): patch.pop(key) for key in list(patch) if key.startswith(ORDER)}
    removals = {key.removeprefix(DELETE_FROM): patch.pop(key) for key in list(patch) if key.startswith(DELETE_FROM)}
    for key in orders:
        _check_order(_field(field, key), key, patch.get(key), orders[key])
    before = {key: list(original[key]) for key in orders if isinstance(original.get(key), list)}
    for key, value in patch.items():
        if value is None:
            original.pop(key, None)
        else:
            original[key] = _merge_value(_field(field, key), original.get(key), value, ordered=key in orders)
    for key, order in orders.items():
        items = original.get(key)
        if isinstance(items, list):
            original[key] = reorder(items, order, before.get(key, []), _field(field, key).merge_key)
    for key, values in removals.items():
        if not isinstance(values, list):
            raise bad_request(f"invalid patch format of primitive list: {DELETE_FROM}{key}")
        if isinstance(original.get(key), list):
            gone = set(map(comparable, values))
            original[key] = [item for item in original[key] if comparable(item) not in gone]
    return original


def _retain(original: Obj, patch: Obj) -> None:
    keys = patch.pop(RETAIN, None)
    if keys is None:
        return
    if not isinstance(keys, list):
        raise unappliable("invalid patch format of retainKeys")
    retained = set(map(comparable, keys))
    for key, value in patch.items():
        # Null takes a key away, as when a volume changes its type: such a key is not retained.
        if value is not None and not key.startswith((ORDER, DELETE_FROM)) and key not in retained:
            raise unappliable("invalid patch format of retainKeys")
    for key in [key for key in original if key not in retained]:
        del original[key]


def _merge_value(field: Field, original: Any, patch: Any, *, ordered: bool) -> Any:
    if isinstance(patch, dict):
        if "replace" in field.strategies:
            return _clean(patch)
        return _merge_map(field, original if isinstance(original, dict) else {}, patch)
    if isinstance(patch, list) and "merge" in field.strategies:
        if not isinstance(original, list):
            original = []
        return _merge_list(field, original, patch, ordered=ordered)
    return _clean(patch)


def _merge_list(field: Field, original: list[Any], patch: list[Any], *, ordered: bool) -> list[Any]:
    before = list(original)
    if any(isinstance(item, list) for item in patch):
        raise unappliable("lists of lists are not supported")
    if not any(isinstance(item, dict) for item in [*original, *patch]):
        merged = list(original)
        seen = set(map(comparable, merged))
        for item in patch:
            if comparable(item) not in seen:
                seen.add(comparable(item))
                merged.append(item)
        return merged if ordered else reorder(merged, patch, before, "")
    merge_key = field.merge_key
    if not merge_key:
        raise bad_request("cannot merge lists without merge key for the field")
    original, patch, replaced = _list_directives(original, patch, merge_key)
    if replaced:
        return [_clean(item) for item in patch]
    items = SCHEMA.items(field)
    merged = list(original)
    places: dict[Any, int] = {}
    for place, item in enumerate(merged):
        if isinstance(item, dict):
            places.setdefault(comparable(item.get(merge_key)), place)
    for item in patch:
        if merge_key not in item:
            raise bad_request(f"map: {as_go(item)} does not contain declared merge key: {merge_key}")
        position = places.setdefault(comparable(item[merge_key]), len(merged))
        if position == len(merged):
            merged.append(_clean(item))
        else:
            merged[position] = _merge_map(items, merged[position], item)
    if ordered:
        return merged
    return reorder(merged, [{merge_key: item[merge_key]} for item in patch], before, merge_key)


def _list_directives(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any], bool]:
    """Take items that are directives out of the patch and apply deletions: (original, patch, replace the list)."""
    plain: list[Any] = []
    gone = set()
    replace = False
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request("expected a map in a list of maps")
        directive = item.get(PATCH)
        if directive is None:
            plain.append(item)
        elif directive == "delete":
            if merge_key not in item:
                raise bad_request("delete patch type with no merge key defined")
            gone.add(comparable(item[merge_key]))
        elif directive == "replace":
            replace = True
            rest = {key: value for key, value in item.items() if key != PATCH}
            if rest:
                plain.append(rest)
        elif directive == "merge":
            raise bad_request("merging lists cannot yet be specified in the patch")
        else:
            raise bad_request(f"unknown patch type: {directive}")
    if gone:
        original = [one for one in original if not isinstance(one, dict) or comparable(one.get(merge_key)) not in gone]
    return original, plain, replace


def _check_order(field: Field, key: str, patch: Any, order: Any) -> None:
    """Every item the patch puts must be in the order list, and in that order."""
    if not isinstance(order, list):
        raise bad_request(f"invalid patch format of setElementOrder: {ORDER}{key}")
    if not isinstance(patch, list):
        return
    keys = [one.get(field.merge_key) if isinstance(one, dict) else one for one in order]
    position = 0
    for item in patch:
        if isinstance(item, dict) and item.get(PATCH):
            continue
        wanted, known = (item.get(field.merge_key), keys) if isinstance(item, dict) else (item, order)
        try:
            position = known.index(wanted, position) + 1
        except ValueError:
            raise bad_request(
                f"The order in patch list:\n{as_go(patch)}\n doesn't match {ORDER.rstrip('/')} list:\n{as_go(order)}\n"
            ) from None


def _clean(value: Any) -> Any:
    """A value taken over whole: without directives and without nulls in maps."""
    if isinstance(value, list):
        return [_clean(item) for item in value if not (isinstance(item, dict) and item.get(PATCH) == "delete")]
    if not isinstance(value, dict):
        return value
    if value.get(PATCH) == "delete":
        return {}
    return {
        key: _clean(inner)
        for key, inner in value.items()
        if inner is not None and key not in (PATCH, RETAIN) and not key.startswith((DELETE_FROM, ORDER))
    }
