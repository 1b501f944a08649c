"""Metrics pages of the real vLLM: what the monitor reads of them under load, of a restart, and where histograms lack.

They are those of two replicas that Prometheus scraped twelve times (tests/data/metrics/recorded.jsonl.gz), written as each
showed them then. A restarted engine is one that shows an earlier page.
"""

from __future__ import annotations

import re
from functools import cache

import pytest
from slm_core.counters import began_anew
from slm_core.engines.registry import default
from slm_core.histograms import read_histogram
from slm_core.pack_pod import READY_METRIC
from slm_core.slo import Limits, Statistic
from slm_operator.kube.engine_metrics import PodPage, _pod_page
from slm_operator.slo.judge import untold
from slm_operator.slo.window import Asked, Scrape, between
from slm_runtime.serve.exposition import merged

from tests.testbed.prometheus import RECORDING, read_recording

ENGINE = default()
SOON, MIDDLE, LAST = 1, 5, 11
"""Scrapes, of twelve; in the first one nobody has asked anything yet."""
LIMITS = Limits(itl_ms=2000.0, ttft_ms=60_000.0, itl_statistic=Statistic.P90, ttft_statistic=Statistic.MEAN)
ASKED = Asked(limits=LIMITS, pods_per_gpu=1, histograms=ENGINE.histograms)
OF_PROMETHEUS = ("__name__", "instance", "job", "namespace", "pod")


@cache
def page(scrape: int, replica: int = 0) -> str:
    """As vLLM wrote it, without comments."""
    recorded = [one for one in read_recording(RECORDING) if one.labels["__name__"].startswith("vllm:")]
    pod = sorted({one.labels["pod"] for one in recorded})[replica]
    own = [one for one in recorded if one.labels["pod"] == pod and len(one.samples) == LAST + 1]
    lines = []
    for one in own:
        labels = ",".join(f'{name}="{value}"' for name, value in one.labels.items() if name not in OF_PROMETHEUS)
        lines.append(f"{one.labels['__name__']}{{{labels}}} {one.samples[scrape][1]}\n")
    return "".join(lines)


def read(text: str) -> PodPage:
    return _pod_page(text, ENGINE, ("itl", "ttft"))


def scrape(at_seconds: float, *pages: str) -> Scrape:
    """Of a pod for each page."""
    found = {str(at): read(text) for at, text in enumerate(pages)}
    return Scrape(
        at_seconds=at_seconds,
        engines={uid: one.counters for uid, one in found.items()},
        histograms={uid: one.histograms for uid, one in found.items()},
        packs={uid: one.engines for uid, one in found.items() if one.engines},
    )


def pack(*pages: str) -> str:
    """As the supervisor shows several engines."""
    return f'{READY_METRIC}{{engine="0"}} 1\n' + "".join(merged(dict(enumerate(pages))))


def gained(first: int, last: int, replica: int = 0) -> int:
    return int(read(page(last, replica)).counters.finished - read(page(first, replica)).counters.finished)


@pytest.mark.parametrize(("key", "name"), ENGINE.histograms.items())
def test_histograms_count_what_the_counters_do_and_grow(key: str, name: str) -> None:
    former, now = read_histogram(page(MIDDLE), name), read_histogram(page(LAST), name)
    assert former is not None
    assert now is not None
    assert now.total == getattr(read(page(LAST)).counters, f"{key}_count") > former.total > 0
    assert now.since(former) is not None
    assert former.since(now) is None


def test_a_window_has_the_percentile_of_a_real_engine() -> None:
    found = between(scrape(0, page(MIDDLE)), scrape(90, page(LAST)), ASKED)
    assert found is not None
    window, _ = found
    assert (window.requests, window.restarted) == (gained(MIDDLE, LAST), 0)
    assert window.tails["itl"].least_ms < window.itl_ms.mean_ms * 10
    assert window.tails["itl"].most_ms > window.itl_ms.mean_ms / 10
    assert untold(LIMITS, window) == {}


def test_a_reset_inside_the_window_leaves_that_engine_out() -> None:
    assert began_anew(read(page(LAST)).counters, read(page(SOON)).counters)
    found = between(scrape(0, page(LAST), page(MIDDLE, 1)), scrape(90, page(SOON), page(LAST, 1)), ASKED)
    assert found is not None
    assert (found[0].requests, found[0].restarted) == (gained(MIDDLE, LAST, 1), 1)
    assert between(scrape(0, page(LAST)), scrape(90, page(SOON)), ASKED) is None


def test_a_reset_inside_a_pack_leaves_its_pod_out() -> None:
    """The sum over its engines only grows: one has gained more than the other has lost."""
    before, now = pack(page(SOON), page(SOON + 1, 1)), pack(page(LAST), page(SOON, 1))
    assert not began_anew(read(before).counters, read(now).counters)
    found = between(scrape(0, before, page(MIDDLE, 1)), scrape(90, now, page(LAST, 1)), ASKED)
    assert found is not None
    assert (found[0].requests, found[0].restarted) == (gained(MIDDLE, LAST, 1), 1)


def test_missing_histograms_are_a_sentence() -> None:
    """The condition has it, and the mean is judged instead."""
    name = ENGINE.histograms["itl"]
    former, now = (re.sub(rf"^{name}_bucket.*\n", "", page(at), flags=re.MULTILINE) for at in (MIDDLE, LAST))
    found = between(scrape(0, former), scrape(90, now), ASKED)
    assert found is not None
    assert untold(LIMITS, found[0]) == {
        "itl": f"p90 ITL cannot be read off the engines' histogram, and its mean is judged: no replica shows {name}"
    }
