"""Equal parts of objects are kept once, different ones never mixed up."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.store.sharing import Pool

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


def pod(number, image="nginx"):
    container = {"name": "c", "image": image, "env": [{"name": "A", "value": "1"}]}
    mounts = [{"name": f"token-{number}", "mountPath": "/var/run"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{number}", "labels": {"app": "a"}},
        "spec": {"containers": [{**container, "volumeMounts": mounts}]},
    }


def test_what_is_equal_is_one():
    pool = Pool()
    first, second = (pool.share(orjson.loads(orjson.dumps(pod(number)))) for number in (1, 2))
    assert second == pod(2)
    assert first["metadata"]["labels"] is second["metadata"]["labels"]
    one, other = first["spec"]["containers"][0], second["spec"]["containers"][0]
    assert one is not other
    assert one["env"] is other["env"]
    assert one["image"] is other["image"]
    assert one["volumeMounts"] != other["volumeMounts"]


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), ("", None)])
def test_what_only_python_calls_equal_stays_apart(one, other):
    pool = Pool()
    pool.share({"spec": {"a": [one], "b": {"c": one}}})
    shared = pool.share({"spec": {"a": [other], "b": {"c": other}}})
    assert orjson.dumps(shared) == orjson.dumps({"spec": {"a": [other], "b": {"c": other}}})


@given(st.lists(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "data"]), JSON), max_size=6))
def test_sharing_changes_nothing(objects):
    pool = Pool(parts=4)
    wanted = [orjson.dumps(one) for one in objects]
    shared = [pool.share(orjson.loads(one)) for one in wanted]
    assert [orjson.dumps(one) for one in shared] == wanted


def test_what_is_not_met_again_is_forgotten():
    pool = Pool(parts=100)
    for number in range(5000):
        pool.share(pod(number, image=f"image-{number}"))
    assert len(pool) <= 200
