"""A check that is added to SOUND is known wherever all points may be in doubt: it is named, and B = 1 does not win by it."""

import pytest
from slm_core import point_checks
from slm_core.candidates import Check, CheckName
from slm_core.measurements import Mark, Point
from slm_core.point_checks import Doubt, doubts_of, only_one_sequence_is_sound

from tests import builders as build


@pytest.fixture
def small_batches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more check, as somebody would add it."""

    def small(point: Point) -> Check:
        return Check(CheckName.TRUSTED, point.batch_size == 1, f"B={point.batch_size} is too large")

    monkeypatch.setattr(point_checks, "SOUND", (*point_checks.SOUND, small))


@pytest.mark.usefixtures("small_batches_only")
def test_a_new_check_is_a_doubt_by_its_own_words() -> None:
    points = [build.point(batch) for batch in (1, 8, 32)]
    assert doubts_of(points) == (Doubt("B=8 is too large", "measure again"),)
    assert only_one_sequence_is_sound(points)


@pytest.mark.usefixtures("small_batches_only")
def test_a_new_check_stands_beside_what_marks_say() -> None:
    points = [build.point(1), build.point(8, marks=(Mark.THROTTLED,))]
    assert [doubt.says for doubt in doubts_of(points)] == ["the GPU lowered its clocks", "B=8 is too large"]


def test_a_small_pool_is_a_limit_and_no_doubt() -> None:
    points = [build.point(1), build.point(8, preemptions=3, marks=(Mark.PREEMPTED,))]
    assert doubts_of(points) == ()
    assert not only_one_sequence_is_sound(points)
