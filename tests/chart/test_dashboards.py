"""Every metric that a dashboard asks for is one that the operator or vLLM exposes, and every query has an answer.

The answers come from a real Prometheus, which holds what the code of the operator and of the light engine exposes, or
what a real operator and the real vLLM exposed for four minutes (benchmarks/dashboards/recording.py).
"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slm_core.engines import vllm
from slm_operator.metrics import Metrics
from slm_operator.watch.watch_list import Caches

from benchmarks.dashboards.pictures import pictures
from tests.chart.exposed import exposed as exposed_series
from tests.testbed.grafana import Span, ask
from tests.testbed.prometheus import RECORDING, Prometheus, prometheus, read_recording

DASHBOARDS = sorted((Path(__file__).parents[2] / "charts/slm-operator/dashboards").glob("*.json"))
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
METRIC = re.compile(r"\b(?:slm_operator|process|vllm)[:_][a-z_:]+")


def queries(path: Path) -> list[str]:
    board = json.loads(path.read_text())
    variables = [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return variables + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def exposed() -> set[str]:
    ours = Metrics()
    queue: Any = []
    ours.expose_gauges(Caches(), queue, {})
    found = {family.name + end for family in ours.registry.collect() for end in SUFFIXES[family.type]}
    engines = set(vllm._COUNTERS.names.values())  # what the profiler reads of a real vLLM
    return found | engines | {f"{name.removesuffix('_sum')}_bucket" for name in engines if name.endswith("_sum")}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_names_metrics_that_exist(path: Path) -> None:
    for query in queries(path):
        asked = set(METRIC.findall(query))
        assert asked, f"no metric in {query}"
        assert asked <= exposed(), query


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_have_units(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[Prometheus, Span]]:
    """A Prometheus that scraped a small world, and when that was."""
    series = exposed_series()
    with prometheus(series) as server:
        yield server, Span.of(series)


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Prometheus, Span]]:
    """A Prometheus that scraped a real operator and two real engines under load, and when that was."""
    series = read_recording(RECORDING)
    with prometheus(series) as server:
        yield server, Span.of(series)


def unanswered(board: dict[str, Any], server: Prometheus, span: Span) -> list[str]:
    return [asked.query for asked in ask(board, server, span) if not asked.curves]


@pytest.mark.slow  # fetches Prometheus from the Debian mirror, once
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_real_prometheus_answers_every_query(filled: tuple[Prometheus, Span], path: Path) -> None:
    assert unanswered(json.loads(path.read_text()), *filled) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_is_answered_by_what_a_real_run_exposed(recorded: tuple[Prometheus, Span], path: Path) -> None:
    assert unanswered(json.loads(path.read_text()), *recorded) == []


@pytest.mark.slow
def test_the_pictures_are_of_the_recording(recorded: tuple[Prometheus, Span]) -> None:
    for file, drawn in pictures(*recorded).items():
        assert file.read_text() == drawn, "draw them again: python -m benchmarks.dashboards.pictures"


@pytest.mark.slow
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_one_wrong_letter_in_any_metric_or_label_is_found(filled: tuple[Prometheus, Span], path: Path) -> None:
    board = json.loads(path.read_text())
    for number, panel in enumerate(board["panels"]):
        for place, target in enumerate(panel["targets"]):
            for name in {*METRIC.findall(target["expr"]), *re.findall(r"(\w+)=~?\"", target["expr"])}:
                wrong = copy.deepcopy(board)
                misspelt = re.sub(rf"(?<!\$)\b{name}\b", f"{name}x", target["expr"])
                wrong["panels"][number]["targets"][place]["expr"] = misspelt
                assert len(unanswered(wrong, *filled)) == 1, misspelt
