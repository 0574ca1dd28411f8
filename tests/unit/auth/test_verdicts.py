"""What others say of tokens: kept, shared, forgotten; TokenReviews; both together."""

import asyncio
from datetime import timedelta

import pytest

from orca.api.errors import ApiError
from orca.auth import Authenticator, Credentials, UserInfo
from orca.auth.remote import RemoteTokens
from orca.auth.tokencache import TokenCacheStats
from orca.auth.tokenreview import judged
from orca.auth.verdicts import Verdict, Verdicts
from orca.client.clock import VirtualClock

ANNA = Verdict(UserInfo("anna"), ("us",))
OURS = ("us",)


class Others:
    """Say of a token what they were told to."""

    def __init__(self):
        self.says = {}
        self.asked = []
        self.slow = None

    async def ask(self, token, audiences):
        self.asked.append((token, audiences))
        if self.slow is not None:
            await self.slow.wait()
        return self.says.get(token, Verdict(None))

    async def aclose(self):
        pass


def verdicts(others, clock, *, good=10.0, bad=0.0):
    return Verdicts(others.ask, good=good, bad=bad, clock=clock)


async def test_users_are_remembered_for_a_while():
    others, clock = Others(), VirtualClock()
    others.says["t"] = ANNA
    made = verdicts(others, clock)
    assert made.known("t", OURS) is None
    assert await made.of("t", OURS) == ANNA
    await clock.settle()
    assert made.known("t", OURS) == ANNA
    assert made.known("t", ("others",)) is None
    await clock.advance(10)
    assert made.known("t", OURS) is None
    await made.of("t", OURS)
    assert len(others.asked) == 2


async def test_what_became_of_questions_is_counted():
    others, clock, stats = Others(), VirtualClock(), TokenCacheStats()
    others.says = {"t": ANNA, "broken": Verdict(None, error="no such host")}
    others.slow = asyncio.Event()
    made = Verdicts(others.ask, good=10.0, bad=0.0, clock=clock, stats=stats)

    def told():
        samples = [sample for metric in stats.collect() for sample in metric.samples]
        return {
            (one.name.removeprefix("authentication_token_cache_"), *one.labels.values()): one.value for one in samples
        }

    asking = [asyncio.create_task(made.of("t", OURS)) for _ in range(3)]
    await clock.advance(0.3)
    assert (told()["active_fetch_count", "in_flight"], told()["active_fetch_count", "blocked"]) == (1, 2)
    others.slow.set()
    await asyncio.gather(*asking)
    await made.of("broken", OURS)
    assert made.known("t", OURS)
    assert await made.of("t", OURS) == ANNA
    assert (told()["request_total", "hit"], told()["request_total", "miss"]) == (2, 4)
    assert (told()["fetch_total", "ok"], told()["fetch_total", "error"]) == (1, 1)
    assert (told()["active_fetch_count", "in_flight"], told()["active_fetch_count", "blocked"]) == (0, 0)
    assert told()["request_duration_seconds_bucket", "miss", "0.25"] == 1
    assert told()["request_duration_seconds_bucket", "miss", "0.5"] == 4


async def test_nothing_is_remembered_beyond_the_end_of_a_token():
    others, clock = Others(), VirtualClock()
    others.says["t"] = Verdict(UserInfo("anna"), OURS, end=clock.now() + timedelta(seconds=3))
    made = verdicts(others, clock)
    await made.of("t", OURS)
    await clock.advance(2)
    assert made.known("t", OURS)
    await clock.advance(1)
    assert made.known("t", OURS) is None


async def test_refusals_are_remembered_where_that_is_wanted_and_errors_never():
    others, clock = Others(), VirtualClock()
    others.says["broken"] = Verdict(None, error="no such host")
    made = verdicts(others, clock, bad=60)
    for token in ("bad", "bad", "broken", "broken"):
        await made.of(token, OURS)
        await clock.settle()
    assert [token for token, _ in others.asked] == ["bad", "broken", "broken"]
    short = verdicts(others, clock)
    await short.of("bad", OURS)
    await short.of("bad", OURS)
    assert [token for token, _ in others.asked[3:]] == ["bad", "bad"]


async def test_who_asks_the_same_at_a_time_shares_the_answer_also_when_the_first_goes_away():
    others, clock = Others(), VirtualClock()
    others.says["t"], others.slow = ANNA, asyncio.Event()
    made = verdicts(others, clock)
    asking = [asyncio.create_task(made.of("t", OURS)) for _ in range(4)]
    await clock.settle()
    asking[0].cancel()
    others.slow.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[1:] == [ANNA] * 3
    assert len(others.asked) == 1


async def test_answers_of_before_are_not_kept_once_all_is_forgotten():
    others, clock = Others(), VirtualClock()
    others.says["t"], others.slow = ANNA, asyncio.Event()
    made = verdicts(others, clock)
    asking = asyncio.create_task(made.of("t", OURS))
    await clock.settle()
    made.forget()
    others.slow.set()
    assert await asking == ANNA
    await clock.settle()
    assert made.known("t", OURS) is None


def answered(**status):
    return {"kind": "TokenReview", "status": status}


USER = {"username": "anna", "uid": "7", "groups": ["a"], "extra": {"k": ["v", "w"]}}


def test_an_answered_review():
    verdict = judged(answered(authenticated=True, user=USER), OURS, OURS)
    assert (verdict.user.name, verdict.user.uid, verdict.user.groups) == ("anna", "7", ("a",))
    assert verdict.user.extra == {"k": ("v", "w")}
    assert verdict.audiences == OURS


@pytest.mark.parametrize(
    ("told", "wanted", "common"),
    [(None, ("us",), ("us",)), (None, ("x",), None), (["x", "y"], ("x", "us"), ("x",)), (["x"], ("us",), None)],
)
def test_audiences_of_a_review(told, wanted, common):
    status = {"authenticated": True, "user": USER, **({"audiences": told} if told else {})}
    verdict = judged(answered(**status), wanted, OURS)
    assert (verdict.audiences if verdict.user else None) == common


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({}, "the webhook's answer is no TokenReview with a status"),
        (answered(), ""),
        (answered(authenticated=False, error="expired"), "expired"),
        (answered(authenticated="yes", user=USER), ""),
        (answered(authenticated=True), "the webhook's answer has no user with a name"),
        (answered(authenticated=True, user={"username": ""}), "the webhook's answer has no user with a name"),
    ],
)
def test_reviews_that_prove_nothing(answer, error):
    verdict = judged(answer, OURS, OURS)
    assert (verdict.user, verdict.error) == (None, error)


async def test_a_webhook_has_a_memory_of_its_own():
    others, clock = Others(), VirtualClock()
    others.says["t"] = ANNA
    remote = RemoteTokens(None, others, own=OURS, webhook_seconds=120, clock=clock)
    assert await remote.review("t") == ANNA
    await clock.advance(60)
    assert remote.known("t") is None
    assert await remote.review("t") == ANNA
    assert await remote.review("bad") == Verdict(None)
    assert await remote.review("bad") == Verdict(None)
    assert others.asked == [("t", OURS), ("bad", OURS)]


async def test_an_authenticator_knows_what_others_said_a_moment_ago():
    others, clock = Others(), VirtualClock()
    others.says["t"] = ANNA
    remote = RemoteTokens(None, others, own=OURS, webhook_seconds=120, clock=clock)
    authenticator = Authenticator(remote=remote, clock=clock)
    with pytest.raises(ApiError):
        authenticator.authenticate(Credentials(bearer="t"))
    await remote.review("t")
    await clock.settle()
    user = authenticator.authenticate(Credentials(bearer="t"))
    assert (user.name, user.groups) == ("anna", ("system:authenticated",))


def test_only_some_paths_may_be_anonymous():
    authenticator = Authenticator(anonymous_paths=("/livez", "/healthz"))
    assert authenticator.authenticate(Credentials(), "/livez").name == "system:anonymous"
    for path in ("/livez/", "/livez/etcd", "/", ""):
        with pytest.raises(ApiError) as caught:
            authenticator.authenticate(Credentials(), path)
        assert caught.value.code == 401
