"""HAProxy with the product's configuration, against played engines: what a router in a pack has to do, and what of it each line is for."""

import asyncio
import signal

import pytest

from benchmarks.router.bed import Missed
from benchmarks.router.candidates import HAProxy
from benchmarks.router.points import POINTS, judge

pytestmark = pytest.mark.slow


def instead(line: str, other: str) -> HAProxy:
    def edit(text: str) -> str:
        assert line in text, f"the configuration no longer has {line!r}"
        return text.replace(line, other)

    return HAProxy(edit=edit)


WAITS_FOR_BODY = instead("default_backend engines", "http-response wait-for-body time 60s\n    default_backend engines")
BROKEN = {
    "up before any engine": instead(" hdr Retry-After 5", ""),
    "fewest in flight": instead("balance leastconn", "balance roundrobin"),
    "full pack refuses at once": instead("default-server maxconn 3", "default-server maxconn 30"),
    "refused request is sent on": instead("option redispatch 1", "no option redispatch"),
    "begun request is never repeated": instead("retry-on conn-failure", "retry-on all-retryable-errors"),
    "broken stream is seen": WAITS_FOR_BODY,
    "streams pass unbuffered": WAITS_FOR_BODY,
    "request and answer pass unchanged": instead("option http-no-delay", "option forwardfor"),
    "client that leaves frees its engine": instead("option abortonclose", "no option abortonclose"),
    "engine is taken out without loss": instead("agent-check ", "no-agent-check "),
    "drained pack says so": instead("agent-check ", "no-agent-check "),
    "sick engine is left out": instead("expect status 200", "expect status 200-599"),
    "no orders on the port of requests": instead("default_backend", "stats uri /stats\n    default_backend"),
    "metrics of all engines": instead("use_backend supervisor if metrics", ""),
    "ends after what it carries": HAProxy(ends_on=signal.SIGTERM),
}


async def judged(candidates: dict[str, HAProxy]) -> dict[str, BaseException | str]:
    """What each point says of its candidate; all at once, for most only wait."""
    said = (judge(candidate, point) for point, candidate in candidates.items())
    return dict(zip(candidates, await asyncio.gather(*said, return_exceptions=True), strict=True))


@pytest.fixture(scope="module")
def kept() -> dict[str, BaseException | str]:
    return asyncio.run(judged({point: HAProxy() for point in POINTS}))


@pytest.fixture(scope="module")
def broken() -> dict[str, BaseException | str]:
    return asyncio.run(judged(BROKEN))


@pytest.mark.parametrize("point", POINTS)
def test_router_keeps_the_point(point: str, kept: dict[str, BaseException | str]) -> None:
    assert isinstance(kept[point], str), kept[point]


@pytest.mark.parametrize("point", POINTS)
def test_point_is_missed_where_its_line_is_broken(point: str, broken: dict[str, BaseException | str]) -> None:
    assert isinstance(broken[point], Missed), broken[point]
