"""Figures of an engine that somebody else set up: measured, on the line, or not known; and what advice would change.

Every point is on the line ITL = 4 ms + 0.1 ms x B, so that each figure here can be worked out.
"""

from __future__ import annotations

from typing import Any

import pytest
from slm_core.candidates import Source
from slm_core.measurements import Mark, SharingMode
from slm_core.slo import Slo, Statistic
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.present import Present, Standing, difference, present

from tests.builders import document, point

DOCUMENT = document(*(point(batch) for batch in (1, 8, 32, 64, 128)))
SLO = Slo(itl_ms=12.0)


def now(batch: int | None, slo: Slo = SLO, measured: Any = DOCUMENT, **settings: Any) -> Present:
    return present(measured, slo, Settings(mode=SharingMode.EXCLUSIVE, **settings), batch, "nobody knows it")


def test_measured_batch_has_the_figures_of_its_point() -> None:
    found = now(64)
    assert found.figures is not None
    assert (found.standing, found.figures.itl_ms, found.figures.source) == (Standing.KEEPS, 10.4, Source.MEASURED)
    assert found.because == "measured; it keeps the SLO"


def test_measured_batch_above_the_limit_breaks_the_slo() -> None:
    found = now(128)
    assert (found.standing, found.because) == (Standing.BREAKS, "measured; mean ITL 16.8 ms exceeds 12.0 ms")


def test_batch_between_points_is_on_their_line_and_says_so() -> None:
    found = now(48)
    assert found.figures is not None
    assert found.figures.itl_ms == pytest.approx(8.8)
    assert found.figures.output_tokens_per_second == pytest.approx(1000 * 48 / 8.8)
    assert (found.figures.source, found.standing) == (Source.PREDICTED, Standing.KEEPS)
    assert found.because.startswith("predicted between measured points")
    assert now(100).standing is Standing.BREAKS


def test_batch_beyond_all_points_has_no_figures() -> None:
    found = now(256, Slo(itl_ms=100.0))
    assert (found.figures, found.standing) == (None, Standing.UNKNOWN)
    assert found.because == "B=256 is more than was measured, 128 at most, so its figures are not known"


def test_batch_beyond_all_points_breaks_what_the_last_breaks() -> None:
    found = now(256)
    assert (found.figures, found.standing) == (None, Standing.BREAKS)
    assert "full batches break the SLO, as B=128 does: mean ITL 16.8 ms exceeds 12.0 ms" in found.because


@pytest.mark.parametrize(
    "slo",
    [Slo(itl_ms=12.0, ttft_ms=100.0), Slo(itl_ms=12.0, itl_statistic=Statistic.P90)],
    ids=["TTFT", "a percentile"],
)
def test_limit_that_no_line_tells_is_not_called_kept(slo: Slo) -> None:
    assert now(48, slo).standing is Standing.UNKNOWN
    assert now(256, Slo(itl_ms=12.0, itl_statistic=Statistic.P90)).standing is Standing.UNKNOWN


def test_thin_load_runs_what_the_load_brings() -> None:
    """An engine for 128 sequences with 32 requests in flight does what one for 32 does."""
    found = now(128, concurrency=32)
    assert found.figures is not None
    assert (found.figures.itl_ms, found.standing) == (7.2, Standing.KEEPS)
    assert found.figures.configuration.batch_size == 128


def test_unknown_batch_has_no_figures() -> None:
    assert now(None) == Present(batch_size=None, figures=None, standing=Standing.UNKNOWN, because="nobody knows it")


def test_point_in_doubt_gives_no_figures() -> None:
    doubtful = document(*(point(batch) for batch in (1, 8, 32)), point(64, marks=(Mark.THROTTLED,)))
    found = now(64, measured=doubtful)
    assert (found.figures, found.standing) == (None, Standing.UNKNOWN)
    assert "the GPU lowered its clocks" in found.because


def test_single_point_predicts_nothing() -> None:
    assert now(8, measured=document(point(1), point(32))).figures is not None
    assert now(8, measured=document(point(32))).figures is None


def test_pack_that_was_not_measured_has_no_figures() -> None:
    found = now(64, engines_per_gpu=2)
    assert (found.figures, found.because) == (None, "2 engines with 64 sequences each were not measured")


def test_packs_of_two_modes_are_not_told_apart_by_guess() -> None:
    packs = [point(64, replicas=2, sharing_mode=mode) for mode in (SharingMode.MPS, SharingMode.TIME_SLICING)]
    measured = document(point(1), point(32), *packs)
    asked = {"slo": SLO, "batch_size": 64}
    found = present(measured, settings=Settings(engines_per_gpu=2), **asked)
    assert found.because == "2 engines were measured as MPS and as TimeSlicing: say how they share the GPU"
    one = present(measured, settings=Settings(engines_per_gpu=2, mode=SharingMode.MPS), **asked)
    assert one.figures is not None
    assert one.figures.configuration.sharing_mode is SharingMode.MPS


def test_difference_is_that_of_both_figures() -> None:
    settings = Settings(mode=SharingMode.EXCLUSIVE)
    advice = advise(DOCUMENT, SLO, settings)
    assert advice.configuration.batch_size == 64
    change = difference(now(8), advice)
    assert change is not None
    assert change.throughput_fraction == pytest.approx((64 / 10.4) / (8 / 4.8) - 1)
    assert change.itl_fraction == pytest.approx(10.4 / 4.8 - 1)
    assert not change.is_noise
    same = difference(now(64), advice)
    assert same is not None
    assert same.is_noise
    assert difference(now(None), advice) is None
