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
    """One that belongs to somebody: to "odd" or "even", as its revision is."""
    space, _, name = key.partition("/")
    raw = (
        b'{"apiVersion":"v1","kind":"K","metadata":{"resourceVersion":"%d","name":"x",'
        b'"ownerReferences":[{"uid":"%s"}]}}' % (revision, owner_of(revision).encode())
    )
    return Entry(space, name, revision, None, raw)


def owner_of(revision):
    return "odd" if revision % 2 else "even"


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


@given(steps=STEPS, space=st.sampled_from(["", "a", "b", "b0"]), start=st.sampled_from(["", *NAMES]))
def test_what_is_selected_is_in_order_whatever_happened_before(steps, space, start):
    bucket, there = Bucket("/registry/core/things", 0), {}
    bucket.load([entry("b/q", 1), entry("a/t", 1)])
    there = {"b/q": 1, "a/t": 1}
    for revision, (key, put) in enumerate(steps, 2):
        if put and revision % 7 == 0 and key in there:  # what is stored there cannot be read, until it can
            bucket.spoil(key, "damaged", revision)
            assert key not in [one.key for one in bucket.select()]
            bucket.mend(entry(key, revision), revision)
        else:
            bucket.record(key, entry(key, revision) if put else None, revision, 0.0)
        there.pop(key, None)
        if put:
            there[key] = revision
    wanted = sorted(
        (key, revision)
        for key, revision in there.items()
        if key >= start and (not space or key.startswith(f"{space}/"))
    )
    assert shown(bucket.select(space, start)) == wanted
    assert shown(bucket.select(space, start, most=2)) == wanted[:2]
    for owner in ("odd", "even", "nobody"):
        owned = [(key, revision) for key, revision in wanted if owner_of(revision) == owner]
        assert shown(bucket.select(space, start, ("owner", owner))) == owned
        assert shown(bucket.select(space, start, ("owner", owner), 2)) == owned[:2]


@given(st.integers(0, 6), st.integers(0, 4), st.booleans())
def test_a_page_ends_where_its_limit_says(many, limit, selecting):
    entries = [entry(f"a/{letter}", 1) for letter in "pqrstu"[:many]]
    page = page_of(entries, None, (lambda _: True) if selecting else None, limit, 1)
    assert page.entries == (entries[:limit] if limit else entries)
    assert bool(page.continue_) == (0 < limit < many)
    assert page.remaining == (many - limit if page.continue_ and not selecting else None)
