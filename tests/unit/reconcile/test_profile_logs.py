"""How profile logs are read: each line once, a bounded piece a pass, one log at a time, and from the start where it must."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.kube.errors import NotFound, Refused, Unavailable
from slm_operator.planning.profile.log import NOTHING_PRINTED, read_log
from slm_operator.reconcile.profile_logs import LOG_BYTES, MOST_FAILURES, ProfileLogs

from tests import builders as build
from tests.hostile_log import line, result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.watch.records import PodRecord

PROFILE = build.profile(build.deployment())
POD = build.measuring(build.job(PROFILE))
ENDED = build.measuring(build.job(PROFILE), phase="Succeeded")
NOISE = "x" * 1000


@dataclass
class Kubelet:
    """A log with the second in which each line was printed; gives what a kubelet gives."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    error: Exception | None = None

    async def log(self, *_: str, most_bytes: int, since: str | None) -> bytes:
        self.asked.append(since)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        start = build.NOW if since is None else datetime.fromisoformat(since)
        reported = (
            build.printed(f"{text}\n", _stamp(second)) for second, text in self.lines if build.later(second) >= start
        )
        return b"".join(reported)[:most_bytes]


def _stamp(second: int) -> str:
    return (build.NOW + timedelta(seconds=second, milliseconds=7)).isoformat()


def logs(kubelet: Kubelet) -> ProfileLogs:
    client: Any = kubelet
    return ProfileLogs(client)


async def read(of: ProfileLogs, pod: PodRecord = POD) -> Any:
    return await of.read(PROFILE.meta.key, pod)


async def test_a_log_is_read_on_from_where_it_was_read_to() -> None:
    kubelet = Kubelet([(1, line(point=1, message="B = 1")), (5, NOISE)])
    reader = logs(kubelet)
    assert (await read(reader)).point == 1
    kubelet.lines.append((9, line(point=2, message="B = 2")))
    after = await read(reader)
    assert (after.point, after.doing) == (2, "B = 2")
    assert kubelet.asked == [None, "2026-01-01T00:00:05+00:00"]


async def test_progress_stays_known_when_a_log_piece_has_none() -> None:
    kubelet = Kubelet([(1, line(point=3, message="B = 8"))])
    reader = logs(kubelet)
    await read(reader)
    kubelet.lines = [(8, NOISE)]
    assert (await read(reader)).point == 3


async def test_a_log_longer_than_a_piece_is_read_to_its_end() -> None:
    noise = [(second, NOISE) for second in range(3 * LOG_BYTES // len(NOISE))]
    kubelet = Kubelet([*noise, (len(noise), result())])
    reader = logs(kubelet)
    seen = [await read(reader, ENDED) for _ in range(4)]
    assert [one.is_cut for one in seen] == [True, True, True, False]
    assert seen[-1].document is not None


async def test_more_in_one_second_than_a_piece_stops_no_reading() -> None:
    flood = [(1, NOISE)] * (2 * LOG_BYTES // len(NOISE))
    kubelet = Kubelet([*flood, (3, line(point=7))])
    reader = logs(kubelet)
    assert [(await read(reader)).point for _ in range(3)][-1] == 7


async def test_log_without_result_is_read_once_more_from_the_start() -> None:
    kubelet = Kubelet([(100, line(point=1))])
    reader = logs(kubelet)
    await read(reader)
    kubelet.lines.append((2, result()))  # the node's clock was set back
    assert (await read(reader, ENDED)).document is not None
    assert kubelet.asked[-1] is None


async def test_log_without_result_is_not_read_for_ever() -> None:
    kubelet = Kubelet([(1, line(point=1))])
    reader = logs(kubelet)
    for _ in range(4):
        await read(reader, ENDED)
    assert kubelet.asked.count(None) == 2


async def test_another_pod_is_another_log() -> None:
    kubelet = Kubelet([(1, line(point=9))])
    reader = logs(kubelet)
    await read(reader)
    kubelet.lines = []
    assert await read(reader, build.measuring(build.job(PROFILE), "another")) == NOTHING_PRINTED


@pytest.mark.parametrize("error", [Refused("waiting to start", 400), NotFound("no pod", 404)])
async def test_a_log_that_is_not_there_says_no_more_than_before(error: Exception) -> None:
    kubelet = Kubelet([(1, line(point=2))])
    reader = logs(kubelet)
    before = await read(reader)
    kubelet.error = error
    assert await read(reader) == before


async def test_the_rest_of_a_log_that_is_gone_is_not_waited_for() -> None:
    kubelet = Kubelet([(1, NOISE)] * (2 * LOG_BYTES // len(NOISE)))
    reader = logs(kubelet)
    assert (await read(reader, ENDED)).is_cut
    kubelet.error = NotFound("no log", 404)
    assert not (await read(reader, ENDED)).is_cut


async def test_an_api_server_that_cannot_answer_ends_the_pass() -> None:
    with pytest.raises(Unavailable):
        await read(logs(Kubelet(error=Unavailable("down"))))


async def test_one_log_is_read_at_a_time() -> None:
    kubelet = Kubelet([(1, NOISE)])
    reader = logs(kubelet)
    profiles = [build.meta(f"p{number}").key for number in range(8)]
    await asyncio.gather(*(reader.read(profile, POD) for profile in profiles))
    assert (len(kubelet.asked), kubelet.most_at_once) == (8, 1)


FLOODS = {
    "short lines": ["ab"] * (LOG_BYTES // 40),
    "a long result of empty lists": [line(event="result", document=[[]] * (LOG_BYTES // 4))],
    "results as long as may be": [line(event="result", document=[[]] * 8000)] * 4,
    "events without end": [line(point=1)] * 4000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_hostile_log_takes_little_more_memory_than_its_length(flood: str) -> None:
    text = build.printed("\n".join([*FLOODS[flood], ""]))[:LOG_BYTES]
    tracemalloc.start()
    read_log(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most_bytes(FLOODS[flood])


def most_bytes(lines: Iterable[str]) -> int:
    """A value takes some twenty times its text (empty lists: 64 bytes of 3), and one line is a value at a time."""
    return 30 * min(max(map(len, lines)), 1 << 20) + (1 << 18)


def test_result_too_long_for_an_object_is_not_decoded() -> None:
    reported = read_log(build.printed(line(event="result", document="d" * (1 << 20)) + "\n"))
    assert reported.failure_class == "UnreadableResult"
    assert "1024 KiB" in (reported.failure or "")


def test_event_cut_by_a_log_piece_is_read_whole_next_time() -> None:
    whole = build.printed(line(point=1) + "\n" + line(point=2) + "\n", _stamp(4))
    first = read_log(whole[:-20], is_cut=True)
    assert (first.point, first.until) == (1, "2026-01-01T00:00:04+00:00")
    assert read_log(whole, first).point == 2


LOST = replace(POD, meta=replace(POD.meta, deleting=True))
FAILED = build.measuring(build.job(PROFILE), phase="Failed")


@pytest.mark.parametrize("pod", [LOST, FAILED], ids=["is to be deleted", "has failed"])
async def test_the_log_of_a_lost_node_is_given_up_when_its_pod(pod: PodRecord) -> None:
    kubelet = Kubelet([(1, line(point=1, message="B = 1"))])
    reader = logs(kubelet)
    await read(reader)
    kubelet.error = Unavailable("dial tcp: i/o timeout", 500)
    for _ in range(MOST_FAILURES - 1):
        with pytest.raises(Unavailable):
            await read(reader, pod)
    assert (await read(reader, pod)).point == 1


@pytest.mark.parametrize("pod", [POD, ENDED], ids=["runs", "has succeeded"])
async def test_a_log_is_never_given_up_while_its_pod(pod: PodRecord) -> None:
    kubelet = Kubelet(error=Unavailable("dial tcp: i/o timeout", 500))
    reader = logs(kubelet)
    for _ in range(3 * MOST_FAILURES):
        with pytest.raises(Unavailable):
            await read(reader, pod)
