"""What a million tokens take, in GPU hours, money and energy: measured, or not said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.slo import Slo
from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.economy import Price
from slm_operator.advisor.validate import AdviceError
from slm_operator.api.reasons import Reason
from slm_operator.planning.deployment.advising import (
    DecidedFrom,
    Unadvisable,
    advice_status,
    advise_deployment,
)
from slm_operator.settings import Prices

from tests import builders as build
from tests.builders import SINGLES, document, pack, point

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument, Point
    from slm_operator.advisor.advice import Advice

EUR = Price(per_gpu_hour=2.5, currency="EUR")
ENERGY = Settings(objective=Objective.ENERGY)


def watted(watts: float, *points: Point) -> list[Point]:
    return [replace(one, mean_power_watts=watts) for one in points]


PACKED = document(*watted(300, *SINGLES), *watted(400, pack(128, gain=0.25)))


def advised(found: MeasurementDocument = PACKED, slo: Slo | None = None, **settings: Any) -> Advice:
    return advise(found, slo or Slo(itl_ms=100.0), Settings(**settings))


def said(advice: Advice, words: str) -> bool:
    return any(words in sentence for sentence in advice.sentences)


def test_a_pack_saves_gpu_hours() -> None:
    advice = advised()
    assert advice.saved_gpu_hours_fraction == pytest.approx(0.2)
    assert said(advice, "What takes 100 GPU hours with the best single engine takes 80.0 so.")
    single = advised(document(*SINGLES))
    assert single.saved_gpu_hours_fraction is None


def test_cost_is_price_over_throughput() -> None:
    advice = advised(price=EUR)
    assert advice.predicted is not None
    hours = 1_000_000 / advice.predicted.throughput_tokens_per_second / 3600
    assert advice.cost_per_million_tokens == pytest.approx(2.5 * hours)
    assert said(
        advice, f"A million tokens take {hours:.3f} GPU hours, {2.5 * hours:.3f} EUR at 2.5 an hour, 0.021 J each."
    )


def test_energy_is_what_the_board_counted_before_its_mean_power() -> None:
    counted = replace(SINGLES[1], energy_joules=1000.0, mean_power_watts=300.0)
    (judged,) = [c for c in advised(document(*SINGLES[:1], counted, *SINGLES[2:])).candidates if c.point == counted]
    assert judged.figures.joules_per_token == pytest.approx(1000.0 / (counted.throughput_tokens_per_second * 10))


def test_energy_of_a_window_that_is_not_known_is_by_mean_power() -> None:
    counted = replace(SINGLES[1], energy_joules=1000.0, window_seconds=0.0)
    assert counted.joules_per_token is None
    assert replace(counted, mean_power_watts=300.0).joules_per_token == 300.0 / counted.throughput_tokens_per_second
    for objective in Objective:
        assert advised(document(*watted(300, *SINGLES, counted)), objective=objective).feasible


def test_energy_of_a_load_that_was_not_measured_is_not_known() -> None:
    advice = advised(document(*watted(300, *SINGLES)), concurrency=48)
    (chosen,) = [c for c in advice.candidates if c.chosen]
    assert chosen.predicted is not None
    assert advice.joules_per_token is None
    assert not said(advice, " J each")


def test_smaller_batch_that_was_measured_lends_its_energy() -> None:
    """With 32 in flight a batch of 128 does what 32 do."""
    advice = advised(document(*watted(300, *SINGLES)), concurrency=32)
    assert advice.joules_per_token == pytest.approx(300 / SINGLES[1].throughput_tokens_per_second)


def test_product_without_a_price_is_named_where_others_have_one() -> None:
    without = "NVIDIA-H100-64GB has no price, so no cost is known; which of its configurations is cheapest is: give it one in config"
    assert said(advised(priced=True), without)
    assert said(advised(objective=Objective.COST), without)
    assert not said(advised(), "has no price")


LEAST = [
    ("a pack whose watts rise less than its tokens", 330, 0.25, 2),
    ("one engine where the pack burns more", 600, 0.25, 1),
    ("one engine where the pack misses the gate", 100, 0.02, 1),
]


@pytest.mark.parametrize(("watts", "gain", "engines"), [c[1:] for c in LEAST], ids=[c[0] for c in LEAST])
def test_least_energy_is_chosen_under_the_same_gate(watts: float, gain: float, engines: int) -> None:
    found = document(*watted(300, *SINGLES), *watted(watts, pack(128, gain=gain)))
    advice = advise(found, Slo(itl_ms=100.0), ENERGY)
    assert advice.configuration.engines_per_gpu == engines


def test_least_energy_keeps_the_slo() -> None:
    assert advise(document(*watted(300, *SINGLES)), Slo(itl_ms=11.0), ENERGY).configuration.batch_size == 64


def test_what_has_no_watts_is_not_chosen_for_energy() -> None:
    found = document(*watted(300, *SINGLES[:3]), SINGLES[3])
    advice = advise(found, Slo(itl_ms=100.0), ENERGY)
    assert advice.configuration.batch_size == 64
    (fastest,) = [c for c in advice.candidates if c.point.batch_size == 128]
    assert "an energy that was not measured at this load" in fastest.because


def test_without_watts_an_energy_is_refused_and_not_guessed() -> None:
    with pytest.raises(AdviceError, match="EnergyPerToken needs measured watts, and of what meets the SLO"):
        advise(document(*SINGLES), Slo(itl_ms=100.0), ENERGY)
    spec = build.deployment_spec({"advisor": {"objective": "EnergyPerToken"}, "slo": {"itl": {"maxMs": 100}}})
    refused = advise_deployment(spec, document(*SINGLES))
    assert isinstance(refused, Unadvisable)
    assert refused.reason is Reason.NO_ENERGY_MEASURED


def test_nothing_that_meets_the_slo_is_said_before_energy() -> None:
    advice = advise(document(*SINGLES), Slo(itl_ms=1.0), ENERGY)
    assert not advice.feasible


def test_status_has_cost_and_energy_of_the_choice_and_of_others() -> None:
    spec = build.deployment_spec({"slo": {"itl": {"maxMs": 100}}})
    prices = Prices(currency="EUR", per_gpu_hour={"NVIDIA-H100-64GB": 2.5, "NVIDIA-L4": 0.5})
    advice = advise_deployment(spec, PACKED, prices=prices)
    assert not isinstance(advice, Unadvisable)
    status = advice_status(advice, DecidedFrom(profile="p", generation=1, digest="d", former={}), build.NOW)
    assert (status["currency"], status["savedGpuHoursFraction"]) == ("EUR", 0.2)
    assert status["costPerMillionTokens"] == round(advice.cost_per_million_tokens or 0.0, 4)
    assert status["candidates"][0]["joulesPerToken"] == status["joulesPerToken"] == 0.021
    assert all("costPerMillionTokens" in one for one in status["candidates"])
    assert "currency" not in advice_status(
        advised(), DecidedFrom(profile="p", generation=1, digest="d", former={}), build.NOW
    )


def test_little_energy_excuses_no_preemption() -> None:
    bad = point(256, mean_power_watts=10.0, preemptions=3)
    advice = advise(document(*watted(300, *SINGLES), bad), Slo(itl_ms=100.0), ENERGY)
    assert advice.configuration.batch_size != 256
