"""One page for all engines: Prometheus' own parser reads it, and each sample is still there, with its engine."""

import asyncio
from collections import Counter as Tally
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from slm_core.engines.registry import default
from slm_core.failure import Failure
from slm_runtime.serve.exposition import labelled, merged
from slm_runtime.serve.figures import figures
from slm_runtime.serve.memory import Size, Sizes
from slm_runtime.serve.pack import Death, Fell, Patience
from slm_runtime.serve.plan import heard, new_pack, step
from slm_runtime.serve.status import View

from tests.unit.runtime.serve.conftest import TESTS
from tests.unit.runtime.serve.test_settings import PACK

Sample = tuple[str, frozenset[tuple[str, str]], float]
NAMES = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)


def page_of(model: str, requests: int) -> str:
    """As prometheus_client writes it, which vLLM uses; with vLLM's own label `engine`."""
    registry = CollectorRegistry()
    labels = {"engine": "0", "model_name": model}
    Counter("vllm:request_success", "Finished.", ["finished_reason", *labels], registry=registry).labels(
        finished_reason='a "quoted" {reason}, engine="9"', **labels
    ).inc(requests)
    Gauge("vllm:running", "Of now.", list(labels), registry=registry).labels(**labels).set(requests)
    histogram = Histogram("vllm:itl_seconds", "Between tokens.\nIn seconds.", list(labels), registry=registry)
    for _ in range(requests):
        histogram.labels(**labels).observe(0.02)
    Gauge("process_open_fds", "Without labels.", registry=registry).set(7)
    return generate_latest(registry).decode()


def samples(page: str) -> Iterator[tuple[str, Sample]]:
    for family in text_string_to_metric_families(page):
        for one in family.samples:
            yield family.name, (one.name, frozenset(one.labels.items()), one.value)


def test_every_sample_of_every_engine_is_on_the_page() -> None:
    pages = {index: page_of("op\u2028t", requests=index + 1) for index in range(3)}
    found = Tally(samples("".join(merged(pages))))
    wanted = [
        (family, (name, frozenset((dict(labels) | {"engine": str(index)}).items()), value))
        for index, page in pages.items()
        for family, (name, labels, value) in samples(page)
    ]
    assert found == Tally(wanted)


def test_processes_of_one_engine_stay_apart() -> None:
    page = (TESTS / "data/field/metrics/two-series-of-kv-usage.txt").read_text()
    found = Tally(sample for _, sample in samples("".join(merged({0: page, 1: page}))))
    assert max(found.values()) == 1
    assert len(found) == 2 * len(list(samples(page)))


def test_each_family_is_described_once_and_lies_together() -> None:
    page = "".join(merged({0: page_of("opt", 1), 1: page_of("opt", 2)}))
    described = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    assert len(described) == len(set(described))
    families = [family for family, _ in samples(page)]
    assert [name for at, name in enumerate(families) if at == 0 or families[at - 1] != name] == list(
        dict.fromkeys(families)
    )


def test_counters_of_a_pack_are_the_sum_of_its_engines() -> None:
    from tests.light_engine.arguments import Settings  # noqa: PLC0415
    from tests.light_engine.exposition import exposition  # noqa: PLC0415
    from tests.light_engine.scheduler import Scheduler  # noqa: PLC0415

    async def page() -> str:
        scheduler = Scheduler(Settings(), 8, 512, 100)
        scheduler.counters["generation_tokens"] = 5
        return exposition(scheduler, "opt", {})

    one = asyncio.run(page())
    read = default().read_counters("".join(merged({0: one, 1: one})))
    assert read.output_tokens == 2 * default().read_counters(one).output_tokens == 10


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("", ""),
        ("<html>502</html>\n", ""),
        ("# EOF\n# just words\n", ""),
        ("a 1\nno sample at all\n b 2\n", 'a{engine="3"} 1\n'),
        ("a 1 1700000000\n", 'a{engine="3"} 1 1700000000\n'),
        ("a{} NaN\n", 'a{engine="3"} NaN\n'),
        ("# TYPE a gauge\n", ""),
        ("# TYPE a gauge\nab 1\n# HELP c d\n", 'ab{engine="3"} 1\n'),
    ],
)
def test_what_is_no_sample_is_left_out(page: str, expected: str) -> None:
    assert "".join(merged({3: page})) == expected


@given(labels=st.dictionaries(NAMES, TEXTS, max_size=4), has_own=st.booleans())
def test_labels_stay_whatever_their_values_are(labels: dict[str, str], *, has_own: bool) -> None:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    own = {"engine": "0"} if has_own else {}
    text = ",".join(f'{name}="{value}"' for name, value in (own | escaped).items())
    others = ",".join(f'{name}="{value}"' for name, value in escaped.items())
    assert labelled(text, 4) == ",".join(filter(None, ('engine="4"', others)))


def test_engine_that_is_away_has_its_figures() -> None:
    pack, _ = step(new_pack(2, Patience(), 0.0, need_bytes=0, needs_daemon=False), 0.0, None)
    for _ in range(2):
        pack = heard(pack, Fell(0, Death(failure=Failure.DIED, message="m")), 1.0)
        pack = step(heard(pack, Fell(1, Death(failure=Failure.DIED, message="m")), 1.0), 1.0, None)[0]
    sizes = Sizes(engines={1: Size(resident_bytes=9, grown_bytes=0)}, used_bytes=0, limit_bytes=99)
    view = View(pack=pack, settings=PACK, device=None, free_bytes=None, now=2.0, sizes=sizes, router_asks=False)
    page = "".join(figure.text() for figure in figures(view, {1: ""}))
    shown = {(name, *sorted(labels)): value for _, (name, labels, value) in samples(page)}
    assert shown["slm_pack_engine_up", ("engine", "0")] == 0
    assert shown["slm_pack_engine_up", ("engine", "1")] == 1
    assert shown["slm_pack_engine_starts_total", ("engine", "0")] == 1
    assert shown["slm_pack_engine_failures_total", ("class", "EngineDied"), ("engine", "0")] == 1
    assert shown["slm_pack_engine_resident_bytes", ("engine", "1")] == 9
    assert shown["slm_pack_memory_limit_bytes",] == 99
    assert shown["slm_pack_router_asks",] == 0
