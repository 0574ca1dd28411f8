"""Pages at one revision show one snapshot, however much changes between them."""

from hypothesis import given
from hypothesis import strategies as st

from orca.store.cache import Bucket
from orca.store.entries import Entry
from orca.store.listing import page_of, undone
from orca.store.paging import decode

NAMES = [f"{space}/{letter}" for space in ("a", "b", "b0") for letter in "pqrst"]
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=30)


def entry(key, revision):
    space, _, name = key.partition("/")
    raw = b'{"apiVersion":"v1","kind":"K","metadata":{"resourceVersion":"%d","name":"x"}}' % revision
    return Entry(space, name, revision, None, raw)


def shown(entries):
    return [(one.key, one.revision) for one in entries]


@given(
    before=STEPS, between=st.lists(STEPS, max_size=4), limit=st.integers(1, 6), space=st.sampled_from(["", "a", "b"])
)
def test_pages_of_the_past_are_one_snapshot(before, between, limit, space):
    bucket, revision = Bucket("/registry/core/things", 0), 0

    def change(steps):
        nonlocal revision
        for key, there in steps:
            revision += 1
            bucket.record(key, entry(key, revision) if there else None, revision, 0.0)

    change(before)
    snapshot, wanted = revision, shown(bucket.select(space))
    found, start, rounds = [], "", iter(between)
    while True:
        differs = bucket.past(snapshot)
        page = page_of(*undone(bucket, space, start, differs), None, limit, snapshot)
        found += shown(page.entries)
        assert (page.remaining or 0) == len(wanted) - len(found)
        if not page.continue_:
            break
        start = decode(page.continue_).start
        change(next(rounds, []))
    assert found == wanted
    assert bucket.count(space) == len(shown(bucket.select(space)))
