"""The figures beside the sentences, for programs; and sentences that no golden document has."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.candidates import Source
from slm_core.choice import Alternative
from slm_core.measurements import Mark, Workload
from slm_core.noise import WIDE_FRACTION
from slm_core.slo import Slo
from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.explain import fraction_more
from slm_operator.advisor.validate import AdviceError, check_slo
from slm_operator.estimator.estimate import advise_unmeasured

from tests.builders import SINGLES, document, pack, point
from tests.unit.advisor.test_estimate import SMALL

if TYPE_CHECKING:
    from slm_core.measurements import Point

ANY = Settings()
FAILED = [
    ("preempted", point(256, preemptions=3), ANY, (3, 0)),
    ("requests failed", point(256, errors=2), ANY, (2, 0)),
    ("a wide interval", point(256, throughput_ci_fraction=0.6), ANY, (0.6, WIDE_FRACTION)),
    (
        "wide, nobody says how wide",
        point(256, throughput_ci_fraction=None, marks=(Mark.WIDE,)),
        ANY,
        (math.inf, WIDE_FRACTION),
    ),
    ("another number of engines", pack(128), Settings(engines_per_gpu=3), (2, 3)),
    ("more engines than allowed", pack(128), Settings(max_engines_per_gpu=1), (2, 1)),
    ("more slices than can be made", pack(32, replicas=50), ANY, (50, 48)),
]


@pytest.mark.parametrize(("why", "candidate", "settings", "figures"), FAILED, ids=[case[0] for case in FAILED])
def test_a_failed_check_has_what_it_compared(
    why: str, candidate: Point, settings: Settings, figures: tuple[float, float]
) -> None:
    found = advise(document(*SINGLES, candidate), Slo(), settings).candidates
    last = next(one for one in found if one.point == candidate).checks[-1]
    assert not last.passed, why
    assert (last.value, last.limit) == figures


@pytest.mark.parametrize(
    ("source", "made"), [(Source.PREDICTED, "is predicted to make"), (Source.MEASURED, "measured")]
)
def test_an_alternative_is_not_called_measured_if_predicted(source: Source, made: str) -> None:
    candidate = advise(document(), Slo(), ANY).candidates[0]
    might = Alternative(
        candidate=replace(candidate, predicted=replace(candidate.figures, source=source)),
        gain_fraction=0.01,
        noise_fraction=0.02,
        itl_ratio=1.5,
    )
    assert fraction_more(might) == f"{made} 1.0% more, which is within the noise of 2.0%"


def test_memory_is_freed_with_the_number_of_engines_asked_for() -> None:
    asked = Settings(objective=Objective.FREE_MEMORY, engines_per_gpu=2)
    assert advise(document(*SINGLES, pack(128)), Slo(), asked).configuration.engines_per_gpu == 2


def test_a_relative_limit_without_its_reference_has_a_remedy() -> None:
    (problem,) = check_slo(document(point(1)), Slo(itl_factor=2))
    assert problem.remedy == "or give the limit in milliseconds (slo.itl.maxMs)"


def test_a_longest_sequence_too_large_is_told_in_gib() -> None:
    with pytest.raises(
        AdviceError, match=r"310,000 tokens is estimated to need 56\.8 GiB of KV, .* has 55\.1 GiB for it"
    ):
        advise_unmeasured("hf://a/model", replace(SMALL, max_model_len=310_000), Slo(), ANY)


def test_an_estimate_says_what_it_does_not_follow() -> None:
    asked = replace(SMALL, workload=Workload(source="fixed", input_tokens_mean=100, output_tokens_mean=100))
    notes = advise_unmeasured("hf://a/model", replace(asked, not_followed=("--enable-lora",)), Slo(), ANY).sentences
    assert notes[-2] == "It does not follow --enable-lora, which changes memory too."
