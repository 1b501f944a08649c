"""Figures in the documentation are those that a run has kept, and every fault that is tested has its row."""

import json
from typing import Any

import pytest

from benchmarks.measured import RESULTS
from tests.control_plane import test_faults, test_faults_of_operators
from tests.docs.pages import ROOT

FAULTS = test_faults.FAULTS | test_faults_of_operators.FAULTS
FAULTS_KEPT: dict[str, Any] = json.loads((RESULTS / "faults.json").read_text())
SCALE: dict[str, Any] = json.loads((RESULTS / "scale.json").read_text())
SHIPPING: dict[str, Any] = json.loads((RESULTS / "shipping.json").read_text())
KEYS = {
    *("settled_seconds", "floor_seconds", "operator_peak_mib", "operator_cpu_seconds", "writes"),
    *("idle_writes", "idle_reads", "start_seconds", "change_p99_ms"),
}


def test_every_fault_has_a_row_and_was_met() -> None:
    text = (ROOT / "docs/reference/reliability.md").read_text()
    assert {one["fault"] for one in FAULTS_KEPT["outcomes"]} == set(FAULTS)
    for fault, how in FAULTS.items():
        assert f"| {fault} | {how} |" in text
    assert [one["fault"] for one in FAULTS_KEPT["outcomes"] if one["result"] == "held" and not one["met"]] == []


def test_every_size_has_every_figure_and_says_where_it_is_from() -> None:
    for run in SCALE["runs"]:
        assert KEYS - run.keys() == set()
        assert {"commit", "date", "cores", "memory_gib"} <= run["environment"].keys()


def test_the_floor_made_the_same_writes() -> None:
    for run in SCALE["runs"]:
        assert run["floor_writes"] == pytest.approx(run["writes"], rel=0.03)


def test_the_readme_says_how_long_the_recorded_installs_took() -> None:
    two, pages = SHIPPING["twoLines"], SHIPPING["walkthroughSeconds"]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert f"installed in {pages['install']} s, ready {pages['apply']} s after `kubectl apply`" in said
    assert (
        f"available after {two['operatorAvailableSeconds']} s, the first answer came after {two['answerSeconds']} s"
        in said
    )
