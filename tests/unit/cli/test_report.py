"""The report: one file, offline, honest about what was chosen and what was not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.slo import Slo
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_operator.report.drawing import Box, Scale, doubling_ticks, element, place_labels, round_ticks, short
from slm_operator.report.page import page
from slm_operator.report.scene import Standing
from slm_operator.report.view import scene

from tests import builders as build

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument
    from slm_operator.report.scene import Scene


def measured(model: str) -> MeasurementDocument:
    """The published sweep, and packs where there are any."""
    sweep = build.published(model)
    if model == "llama-2-7b":
        return sweep
    packs = tuple(p for p in build.published_packs(model).points if p.replicas > 1)
    return replace(sweep, points=sweep.points + packs)


def scene_of(document: MeasurementDocument, slo: Slo | None = None, settings: Settings | None = None) -> Scene:
    slo, settings = slo or Slo(itl_factor=4), settings or Settings()
    return scene(document, advise(document, slo, settings), slo, settings)


def pictures(html: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)]


CASES: list[tuple[str, str, Slo, Settings]] = [
    ("a pack", "opt-1.3b", Slo(itl_factor=4), Settings()),
    ("a single engine", "llama-2-7b", Slo(itl_factor=2), Settings()),
    ("packs rejected", "opt-2.7b", Slo(itl_factor=4), Settings(min_gain=0.3)),
    ("infeasible", "opt-1.3b", Slo(itl_ms=0.5), Settings()),
    ("thin load", "opt-1.3b", Slo(itl_factor=4), Settings(concurrency=20)),
    ("the user's number", "opt-1.3b", Slo(itl_factor=4), Settings(engines_per_gpu=4)),
    ("no limit", "opt-2.7b", Slo(), Settings()),
]


@pytest.mark.parametrize(("model", "slo", "settings"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_is_one_small_offline_file_with_well_formed_pictures(model: str, slo: Slo, settings: Settings) -> None:
    html = page(scene_of(measured(model), slo, settings))
    assert len(html.encode()) < 1 << 20
    assert not re.search(r"<script|<link|<img|<iframe|\bsrc=|\bhref=|@import|url\(", html)
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}
    for picture in pictures(html):
        wide, tall = (float(v) for v in picture.attrib["viewBox"].split()[2:])
        for mark in picture.iter():
            assert not re.search(r"nan|inf", " ".join(mark.attrib.values()), flags=re.IGNORECASE)
            for name, most in (("x", wide), ("cx", wide), ("x1", wide), ("y", tall), ("cy", tall), ("y2", tall)):
                assert -20 <= float(mark.attrib.get(name, 0)) <= most + 20, ET.tostring(mark)


@pytest.mark.parametrize(("model", "slo", "settings"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_shows_every_sentence_and_every_candidate(model: str, slo: Slo, settings: Settings) -> None:
    document = measured(model)
    advice = advise(document, slo, settings)
    shown = scene(document, advice, slo, settings)
    assert (shown.answer, *shown.because) == advice.sentences
    assert sorted(row.cells[-1] for row in shown.rows) == sorted(c.because for c in advice.candidates)
    assert len(shown.dots) == len(document.points)
    assert sum(dot.standing is Standing.CHOSEN for dot in shown.dots) == 1


def test_chosen_pack_best_single_and_rejected_stand_apart() -> None:
    shown = {dot.name: dot for dot in scene_of(measured("opt-1.3b")).dots}
    assert shown["96 × 2"].standing is Standing.CHOSEN
    assert shown["256"].standing is Standing.BEST_SINGLE
    assert shown["768"].failed == "SLO"
    assert shown["256 × 4"].failed == "Preemption"
    assert shown["96 × 2"].gain == pytest.approx(12313.9 / 10809.8 - 1)
    assert not shown["256"].on_frontier


def test_memory_bars_add_up_to_the_device() -> None:
    for bar in scene_of(measured("opt-1.3b")).memory:
        assert sum(share.gib for share in bar.shares) == pytest.approx(63.43, abs=0.01)


def test_charts_without_ledger_energy_or_packs_are_left_out() -> None:
    document = measured("opt-1.3b")
    bare = replace(
        document,
        ledger=None,
        points=tuple(replace(p, mean_power_watts=None) for p in document.points if p.replicas == 1),
    )
    html = page(scene_of(bare))
    assert [title for title in ("Memory of one GPU", "Energy", "Packs against") if title in html] == []


def test_less_load_than_was_measured_is_shown_as_a_bound() -> None:
    shown = scene_of(measured("opt-1.3b"))
    assert [row[0] for row in shown.loads] == ["1", "48", "96", "144", "192", "288"]
    assert [row[1].startswith("≥") for row in shown.loads] == [True, True, True, True, False, False]
    assert shown.loads[-1][1] == shown.loads[-2][1]
    assert "Expected under less load" in page(shown)
    single = scene_of(measured("llama-2-7b"), Slo(itl_factor=2))
    assert not any("≥" in cell for row in single.loads for cell in row)


def test_a_search_that_ended_early_is_said_so() -> None:
    cut = replace(measured("opt-1.3b"), complete=False, incomplete_because="the budget of 15 GPU minutes was spent")
    assert "The search ended early: the budget of 15 GPU minutes was spent." in page(scene_of(cut))


def test_document_text_is_escaped_in_the_report() -> None:
    document = measured("opt-1.3b")
    hostile = replace(document, model=replace(document.model, uri='"><script>alert(1)</script>'))
    html = page(scene_of(hostile))
    assert "<script>" not in html
    assert "&quot;&gt;&lt;script&gt;" in html


def test_two_reports_of_one_document_are_the_same_bytes() -> None:
    assert page(scene_of(measured("opt-1.3b"))) == page(scene_of(measured("opt-1.3b")))


@given(st.floats(1e-3, 1e9), st.integers(2, 12))
def test_round_ticks_start_at_0_rise_evenly_and_stay_inside(high: float, count: int) -> None:
    ticks = round_ticks(high, count)
    assert ticks[0] == 0
    assert ticks[-1] <= high * (1 + 1e-6)
    assert len(ticks) <= count + 1
    assert len(ticks) >= 2


@given(st.integers(1, 1 << 20), st.integers(0, 1 << 20))
def test_doubling_ticks_are_at_most_ten_powers_of_two(low: int, more: int) -> None:
    ticks = doubling_ticks(low, low + more)
    assert len(ticks) <= 10
    assert all(float(t).hex().endswith("0p+" + str(int(t).bit_length() - 1)) for t in ticks)


@given(st.floats(1, 1e6), st.floats(1.1, 1e3), st.booleans())
def test_a_scale_keeps_order_and_ends(low: float, factor: float, logarithmic: bool) -> None:  # noqa: FBT001
    scale = Scale(low, low * factor, 100.0, 500.0, logarithmic=logarithmic)
    assert scale(low) == pytest.approx(100)
    assert scale(low * factor) == pytest.approx(500)
    assert scale(low * factor * 2) == pytest.approx(500)
    assert 100 <= scale(low * factor**0.5) <= 500


@pytest.mark.parametrize(
    ("value", "shown"), [(12314.4, "12,314"), (0, "0"), (13.84, "13.8"), (0.42, "0.42"), (7.0, "7"), (100.5, "100")]
)
def test_short_figures(value: float, shown: str) -> None:
    assert short(value) == shown


def test_chart_labels_do_not_overlap_and_minor_ones_give_way() -> None:
    crowd = [(100.0 + i, 100.0, f"label {i}") for i in range(30)]
    placed = place_labels(crowd, [], Box(0, 0, 300, 200))
    boxes = [box for _, box in placed]
    assert placed[0][0] == 0
    assert 2 <= len(placed) < len(crowd)
    for i, box in enumerate(boxes):
        assert sum(box.overlap(other) for other in boxes[:i]) <= box.width * box.height / 8


def test_elements_escape_what_they_hold() -> None:
    assert element("text", "&lt;", class_="a", text_anchor='"') == '<text class="a" text-anchor="&quot;">&lt;</text>'
