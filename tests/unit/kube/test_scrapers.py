"""Who may read the operator's metrics: what the API server says of a token, asked seldom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.kube.errors import Unavailable
from slm_operator.kube.scrapers import KNOWN_SECONDS, MOST_CHARACTERS, MOST_KNOWN, MOST_WELCOME, Scrapers

if TYPE_CHECKING:
    from slm_operator.kube.resources import Resource

USER = {"username": "system:serviceaccount:monitoring:prometheus", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}}


@dataclass
class Reviews:
    """An API server that knows some tokens, and lets some users."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    allowed: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    fails: bool = False

    async def create(self, resource: Resource, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        assert namespace == ""
        if self.fails:
            raise Unavailable("no answer in time")
        self.asked.append((resource.plural, body["spec"]))
        if resource.plural == "tokenreviews":
            user = self.users.get(body["spec"]["token"])
            return body | {"status": {"authenticated": user is not None, "user": user or {}}}
        return body | {"status": {"allowed": body["spec"]["user"] in self.allowed}}


@dataclass
class Case:
    """Scrapers on a clock that stands until it is set."""

    reviews: Reviews = field(default_factory=Reviews)
    now: float = 0.0

    def __post_init__(self) -> None:
        client: Any = self.reviews
        self.scrapers = Scrapers(client=client, clock=lambda: self.now)

    async def status(self, token: str, address: str = "10.0.0.1") -> int:
        return await self.scrapers.status_for(f"Bearer {token}", address)


@pytest.fixture
def case() -> Case:
    return Case(Reviews(users={"good": USER, "other": {"username": "somebody"}}, allowed={USER["username"]}))


async def test_who_may_get_metrics_is_let_in(case: Case) -> None:
    assert await case.status("good") == 200
    (_, token), (_, access) = case.reviews.asked
    assert token == {"token": "good"}
    assert access == {
        "user": USER["username"], "groups": ["g"], "uid": "u", "extra": {"k": ["v"]},
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
    }  # fmt: skip


async def test_who_may_not_and_who_is_nobody_are_told_apart(case: Case) -> None:
    assert await case.status("other") == 403
    assert await case.status("forged") == 401


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dTpw",
        f"Bearer {'x' * (MOST_CHARACTERS + 1)}",
        "Bearer \udcff",
        "Bearer é",
        "Bearer a b",
    ],
)
async def test_what_is_no_token_is_asked_of_nobody(case: Case, header: str) -> None:
    assert await case.scrapers.status_for(header, "10.0.0.1") == 401
    assert case.reviews.asked == []


async def test_an_answer_holds_for_a_minute_and_no_longer(case: Case) -> None:
    assert await case.status("good") == 200
    case.reviews.allowed.clear()
    assert await case.status("good") == 200
    assert len(case.reviews.asked) == 2
    case.now += KNOWN_SECONDS
    assert await case.status("good") == 403


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.66"], ids=["where one was let in", "elsewhere"])
async def test_whoever_guesses_tokens_costs_the_api_server_little(case: Case, address: str) -> None:
    assert await case.status("good") == 200
    guessed = [await case.status(f"guess-{number}", address) for number in range(100)]
    assert guessed.count(401) <= 10
    assert guessed.count(429) >= 90
    assert await case.status("good") == 200


async def test_a_flood_keeps_out_nobody_who_was_let_in(case: Case) -> None:
    """Not even with the next token: a Prometheus brings a new one each hour."""
    case.reviews.users["renewed"] = USER
    assert await case.status("good") == 200
    for second in range(10 * int(KNOWN_SECONDS)):
        case.now += 1
        assert {await case.status(f"guess-{second}-{number}", "10.0.0.66") for number in range(5)} <= {401, 429}
        if second % 30 == 0:
            assert await case.status("good" if second < 300 else "renewed") == 200
    reviewed = sum(plural == "tokenreviews" for plural, _ in case.reviews.asked)
    assert reviewed <= 10 * KNOWN_SECONDS + 10 + 20  # a guess a second and ten at once; whom it lets in, twice a minute


async def test_addresses_are_forgotten_beyond_a_bound(case: Case) -> None:
    for number in range(3 * MOST_WELCOME):
        assert await case.status("good", f"10.0.0.{number}") == 200
    assert len(case.scrapers._welcome) <= MOST_WELCOME


async def test_answers_are_forgotten_beyond_a_bound(case: Case) -> None:
    for number in range(3 * MOST_KNOWN):
        case.now += 2
        await case.status(f"guess-{number}")
    assert len(case.scrapers._known) <= MOST_KNOWN
    assert not any(b"guess" in known for known in case.scrapers._known)


async def test_an_api_server_that_does_not_answer_lets_nobody_in(case: Case) -> None:
    case.reviews.fails = True
    assert await case.status("good") == 503
    case.reviews.fails = False
    assert await case.status("good") == 200
