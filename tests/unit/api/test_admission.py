"""The table of admission, asked of the API's own types. tests/control_plane asks a real API server the same."""

import pytest
from pydantic import ValidationError
from slm_operator.api.deployment import SLMDeploymentSpec

from tests.unit.api.admission import CASES, Case

OF_FIELDS = [case for case in CASES if not case.crosses]
GOOD = {"model": {"uri": "hf://facebook/opt-125m"}}


@pytest.mark.parametrize("case", [case for case in CASES if case.refused is None], ids=lambda case: case.name)
def test_a_spec_that_is_taken(case: Case) -> None:
    SLMDeploymentSpec.model_validate(GOOD | case.spec, extra="forbid")


@pytest.mark.parametrize("case", [case for case in OF_FIELDS if case.refused is not None], ids=lambda case: case.name)
def test_a_spec_that_is_refused_with_what_to_write(case: Case) -> None:
    with pytest.raises(ValidationError) as refused:
        SLMDeploymentSpec.model_validate(GOOD | case.spec, extra="forbid")
    assert case.refused is not None
    assert case.refused in str(refused.value)


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
