"""`kubectl slm advise --for --metrics`: what an engine does now, beside what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.counters import Counters
from slm_core.engines import vllm
from slm_core.slo import Slo
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.watched import ENGINE, doing
from slm_operator.cli.render.running import doing_in_words
from slm_operator.slo.window import Scrape
from unit.cli.asking import BATCH, MEASURED, Asker, container

from tests.builders.engines import deployment

if TYPE_CHECKING:
    from unit.cli.api_server import ApiServer


ZERO = Counters(**dict.fromkeys(Counters.__dataclass_fields__, 0.0))


def counted(requests: int, seconds_each: float, *, tokens: int = 100) -> Counters:
    """An engine that has answered so many requests of a hundred tokens in, one token each ITL."""
    gaps = requests * (tokens - 1)
    return replace(
        ZERO,
        finished=requests,
        prompt_tokens=100 * requests,
        output_tokens=tokens * requests,
        itl_count=gaps,
        itl_sum=gaps * seconds_each,
        ttft_count=requests,
    )


def at(seconds: float, counters: Counters) -> Scrape:
    return Scrape(at_seconds=seconds, engines={ENGINE: counters})


ALONE = EngineConfiguration(batch_size=64, max_num_batched_tokens=8192)
DOING: list[tuple[str, Counters, EngineConfiguration | None, str]] = [
    # By Little's law 1,000 requests of 99 gaps of 8 ms in 20 s are 39.6 in flight: measured ones have an ITL of 7.96 ms there.
    ("as measured", counted(1000, 0.008), ALONE, "Measured engines make 9,950 tokens/s at a mean ITL of 8.0 ms there, of which that is 101%."),
    ("half as fast", counted(500, 0.016), ALONE, "of which that is 50%."),
    ("a batch that is not known", counted(1000, 0.008), None, "With so many in flight and such a batch nothing was measured."),
    ("other lengths", counted(1000, 0.008, tokens=200), ALONE, "Measured were other lengths, so this says nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("after", "served", "words"), [c[1:] for c in DOING], ids=[c[0] for c in DOING])
def test_what_an_engine_does_stands_beside_what_was_measured(
    after: Counters, served: EngineConfiguration | None, words: str
) -> None:
    found = doing((at(0.0, ZERO), at(20.0, after)), MEASURED, Slo(itl_ms=12.0), 1, served)
    said = list(doing_in_words(found))
    assert said[0].startswith("Over 20 s one GPU of it does")
    assert words in said[-1]


def test_engines_of_one_gpu_do_as_much_each() -> None:
    found = doing((at(0.0, ZERO), at(20.0, counted(1000, 0.008))), MEASURED, Slo(itl_ms=12.0), 2, None)
    assert found.figures.throughput_tokens_per_second == 2 * 1000 * 200 / 20


SILENT = {
    "nobody asks": (counted(5, 0.01), counted(5, 0.01), "no request has finished within 20 s"),
    "restarted": (
        counted(500, 0.01),
        counted(5, 0.01),
        "the engine's counters began anew within 20 s: it was restarted",
    ),
}


@pytest.mark.parametrize("case", SILENT)
def test_metrics_that_say_nothing_are_a_sentence(case: str) -> None:
    before, after, words = SILENT[case]
    with pytest.raises(Refused, match=words):
        doing((at(0.0, before), at(20.0, after)), MEASURED, Slo(itl_ms=12.0), 1, ALONE)


def engine_page(counters: Counters) -> str:
    names = {"running": 3, "waiting": 1, "kv_usage": 0.2} | {
        name: getattr(counters, name) for name in Counters.__dataclass_fields__
    }
    shown = vllm._COUNTERS.names
    return "".join(f'{sample}{{model_name="m"}} {float(names[field])}\n' for field, sample in shown.items())


def test_metrics_page_of_the_engine_is_read_twice(ask: Asker, server: ApiServer) -> None:
    pages = iter([engine_page(ZERO), engine_page(counted(1000, 0.008))])
    server.answer = lambda *_: (200, next(pages))  # type: ignore[method-assign]
    url = ("--metrics", f"{server.url}/metrics", "--metrics-seconds", "0.01")
    found = ask.values(deployment(container(f"{BATCH}=64")), *url)
    assert found["doing"]["figures"]["itlMs"] == pytest.approx(8.0)
    assert any("Over 0 s one GPU of it does" in one for one in found["sentences"])
    assert ask.values(deployment(container(f"{BATCH}=64")))["doing"] is None


PAGES = {
    "no address": ("localhost:8000/metrics", "--metrics localhost:8000/metrics: give an address"),
    "nobody there": ("http://127.0.0.1:1/metrics", "http://127.0.0.1:1/metrics: "),
}


@pytest.mark.parametrize("case", PAGES)
def test_metrics_page_that_cannot_be_read_is_refused(ask: Asker, case: str) -> None:
    url, words = PAGES[case]
    code, _, err = ask(deployment(container(f"{BATCH}=64")), "--metrics", url)
    assert code == 2
    assert words in err
