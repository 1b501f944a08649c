"""Of every point and every load one thing is true: it was measured at that load, or it was not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.candidates import CheckName, Source
from slm_core.decision import Basis, Wanted, decide, evaluate
from slm_core.load import SAME_LOAD_FRACTION, is_at, is_partial
from slm_core.slo import Limits
from slm_core.tuning import Tuning

from tests.builders import pack, point

ONE = point(1)


def basis(*points: object, in_flight: int | None) -> Basis:
    measured = [ONE, *points]
    return Basis.of(measured, Wanted(limits=Limits(), tuning=Tuning(min_efficiency=0.01), in_flight=in_flight))  # type: ignore[arg-type]


@pytest.mark.parametrize("percent", [90, 94, 95, 96, 97, 98, 99, 100])
@pytest.mark.parametrize("asked", [None, 90, 94, 95, 96, 97, 98, 99, 100, 110])
def test_load_near_full_batches_is_at_that_load_or_partial(percent: int, asked: int | None) -> None:
    near = pack(50, in_flight=percent)
    wanted = 100 if asked is None else min(asked, 100)
    says = abs(percent - wanted) <= SAME_LOAD_FRACTION * max(percent, wanted)
    judged = evaluate(basis(near, in_flight=asked)).packs[0]
    assert is_at(near, asked) is says
    assert next(c.passed for c in judged.checks if c.name is CheckName.LOAD) is says


@given(
    batch=st.integers(2, 200),
    engines=st.integers(1, 4),
    loads=st.lists(st.integers(1, 900), max_size=4, unique=True),
    asked=st.one_of(st.none(), st.integers(1, 1000)),
)
def test_one_point_decides_for_a_configuration_at_any_load(
    batch: int, engines: int, loads: list[int], asked: int | None
) -> None:
    full = batch * engines
    of = pack if engines > 1 else point
    others = [n for n in loads if n != full]
    more = {"replicas": engines} if engines > 1 else {}
    points = [of(batch, **more), *(of(batch, in_flight=n, **more) for n in others)]
    found = evaluate(basis(*points, in_flight=asked))
    mine = [c for c in (*found.singles, *found.packs) if c.point in points]
    spoke = [c for c in mine if next(k.passed for k in c.checks if k.name is CheckName.LOAD)]
    at = [p for p in points if is_at(p, asked)]
    if at:
        assert len(spoke) == 1
        assert abs(spoke[0].point.load - (asked or full)) == min(abs(p.load - (asked or full)) for p in at)
        assert spoke[0].predicted is None
    elif engines > 1:
        assert not spoke, "a pack counts only where it was measured"
    else:
        assert spoke, "one engine is predicted, from its full batches"
        assert not any(is_partial(c.point) for c in spoke)


def test_load_between_partial_and_full_uses_its_measurement() -> None:
    """48 in flight of 50 were neither full nor partial: a load of 47 was predicted beside a measurement of it."""
    near = point(50, in_flight=48)
    choice = decide(basis(point(50), near, in_flight=47))
    assert choice is not None
    assert (choice.chosen.point, choice.chosen.figures.source) == (near, Source.MEASURED)


def test_the_efficiency_of_a_thin_load_is_that_of_what_runs() -> None:
    thin = point(200, in_flight=5)
    judged = evaluate(basis(thin, in_flight=5)).singles[-1]
    check = next(c for c in judged.checks if c.name is CheckName.EFFICIENCY)
    assert check.value == pytest.approx(thin.throughput_tokens_per_second / (5 * ONE.throughput_tokens_per_second))
    assert replace(check, because="").passed
