"""One lab for the whole run: a server and two agent hosts, beside whatever lab a user has up."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orca.lab.layout import Lab, load
from tests.cluster.leftovers import LabState, check_left_as, look, look_first
from tests.cluster.podhost import PodHost, pod_host
from tests.support import images
from tests.support import kubectl as kubectls
from tests.support.background import Background
from tests.support.engine import PrivateEngine
from tests.support.kubectl import Kubectl, eventually

REPOSITORY = Path(__file__).parents[2]
LAB = os.environ.get("ORCA_TEST_LAB", "test")
"""`ORCA_TEST_LAB` names another, for a second run beside one."""
ORCA = str(Path(sys.executable).parent / "orca")
_numbers = itertools.count(1)


def _build_images() -> None:
    """Those that are not in the cache yet, as the ones that hold our own code after each change of it."""
    command = [sys.executable, "-m", "orca.lab.images"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


IMAGES = Background(_build_images)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Before all that is begun with a run: labs wait for it."""
    if not session.config.option.collectonly and any("lab" in getattr(i, "fixturenames", ()) for i in session.items):
        IMAGES.begin()


def orca(*argv: str, timeout: float = 400) -> str:
    """Run the ``orca`` command; fails the test when it fails."""
    done = subprocess.run([ORCA, *argv], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"orca {' '.join(argv)} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[PrivateEngine]:
    """One engine for all that needs no cluster."""
    private = PrivateEngine(f"pods-{os.getpid()}")
    private.start()
    private.docker("load", text=images.pause())
    private.docker("load", text=images.busybox())
    yield private
    private.stop()


@pytest.fixture(scope="module")
def engine(shared_engine: PrivateEngine) -> PrivateEngine:
    """That engine, which tests of faults kill and start again; what a module makes on it, it removes."""
    if not shared_engine.answers():
        shared_engine.start()
    return shared_engine


@pytest.fixture
async def host(engine: PrivateEngine) -> AsyncIterator[PodHost]:
    """The part of an agent that runs pods, on that engine."""
    async with pod_host(engine) as made:
        yield made


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of three hosts; ``ORCA_TEST_KEEP_LAB=1`` leaves it up for the next run. ``ORCA_TEST_HOSTS`` makes it
    smaller, for tests that need less."""
    IMAGES.result()
    orca("lab", "up", "--name", LAB, "--hosts", os.environ.get("ORCA_TEST_HOSTS", "3"))
    for item in request.session.items:
        for mark in item.iter_markers("begins_on_lab"):
            mark.args[0].begin()
    up = load(LAB)
    _left[:] = [look_first(up, Kubectl(kubectls.current(), up.kubeconfig))]
    yield up
    if not os.environ.get("ORCA_TEST_KEEP_LAB"):
        orca("lab", "down", "--name", LAB)


_left: list[LabState] = []
"""The lab as the last module has left it, once it is up."""


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Kubectl:
    """The installed kubectl as administrator."""
    return Kubectl(kubectls.current(), lab.kubeconfig)


@pytest.fixture(scope="session")
def alone_on_lab(request: pytest.FixtureRequest, lab: Lab) -> None:
    """For tests that break what others stand on: what began with the lab, beside the tests, is over by now."""
    for item in request.session.items:
        for mark in item.iter_markers("begins_on_lab"):
            mark.args[0].wait()


@pytest.fixture(scope="module", autouse=True)
def left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module that was on the lab fails when it does not leave it as it has found it."""
    yield
    # Stories are told side by side, and beside more than one module: their package looks itself.
    if request.node.path.parent.name != "kinds" and _on_lab(request):
        check_left_as_found()


def _on_lab(request: pytest.FixtureRequest) -> bool:
    mine = [item for item in request.session.items if item.nodeid.startswith(f"{request.node.nodeid}::")]
    return bool(_left) and any("lab" in getattr(item, "fixturenames", ()) for item in mine)


def check_left_as_found() -> None:
    """Fails with what is not; what comes then is not blamed for it."""
    lab = load(LAB)
    admin = Kubectl(kubectls.current(), lab.kubeconfig)
    try:
        _left[:] = [check_left_as(_left[0], lab, admin)]
    except AssertionError:
        _left[:] = [look(lab, admin)]
        raise


@pytest.fixture
def kubectl(admin: Kubectl) -> Iterator[Kubectl]:
    """The installed kubectl in a namespace of the test's own."""
    yield from _own_namespace(admin)


@pytest.fixture(params=["current", "debian"])
def any_kubectl(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Kubectl]:
    """Each supported kubectl in turn, in a namespace of the test's own."""
    binary = kubectls.current() if request.param == "current" else kubectls.debian()
    yield from _own_namespace(Kubectl(binary, lab.kubeconfig))


def _own_namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    name = f"test-{os.getpid()}-{next(_numbers)}"
    kubectl("create", "namespace", name)
    own = kubectl.within(name)
    eventually(lambda: own.try_("get", "serviceaccount", "default").code == 0, what="the default service account")
    yield own
    kubectl("delete", "namespace", name, "--wait=false")
