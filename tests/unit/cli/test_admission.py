"""`kubectl slm plan` refuses what an API server would, with every finding. tests/control_plane/test_admission.py asks a real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api.names import DEPLOYMENT_KIND
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.admission.answer import MOST, asked
from slm_operator.cli.inputs.manifests import deployment
from slm_operator.cli.main import main
from unit.cli.admission_cases import BEYOND, CASES, DEPLOYMENT, Case, args, merged, spec

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = Case("minimal", {}).manifest()
Schema = dict[str, Any]


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == DEPLOYMENT], ids=lambda case: case.name)
def test_plan_answers_as_the_table_says(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "slmd.json"
    file.write_text(json.dumps(case.manifest()))
    if case.refused is None:
        deployment(str(file))
        return
    with pytest.raises(Refused) as refusal:
        deployment(str(file))
    lines = str(refusal.value).splitlines()
    assert any(line.startswith(f"{file}: {case.refused}") and case.says in line for line in lines), lines


@pytest.mark.parametrize("case", [case for case in CASES if case.kind != DEPLOYMENT], ids=lambda case: case.name)
def test_other_kinds_are_answered_as_the_table_says(case: Case) -> None:
    lines = asked(case.manifest(), case.kind).sentences()
    if case.refused is None:
        assert lines == []
    else:
        assert any(line.startswith(case.refused) and case.says in line for line in lines), lines


@pytest.mark.parametrize("case", BEYOND, ids=lambda case: case.name)
def test_plan_refuses_what_only_the_operator_can_see(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "slmd.json"
    file.write_text(json.dumps(case.manifest()))
    assert asked(case.manifest(), case.kind).findings == ()
    with pytest.raises(Refused, match=case.says):
        deployment(str(file))


def test_plan_prints_every_finding_on_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "slmd.json"
    wrong = merged(spec(replicas=-1, enginee={}), args("--model=a"))
    file.write_text(json.dumps(merged(MINIMAL, wrong)))
    assert main(["plan", "-f", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    paths = ["spec.enginee", "spec.replicas", "spec.engine"]
    assert len(lines) == len(paths)
    assert [path in line for path, line in zip(paths, lines, strict=True)] == [True] * len(paths)


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    said = asked(merged(MINIMAL, args(*range(64))), DEPLOYMENT_KIND).sentences()
    assert len(said) == MOST + 2
    assert said[MOST:] == ["and 44 more", "some rules are asked only once these fields are correct"]


@pytest.mark.slow
def test_very_many_mistakes_are_counted_and_some_are_said() -> None:
    fields = {f"{name}{'x' * 1000}": [] for name in range(20_000)}
    said = asked(merged(MINIMAL, {"spec": {"engine": fields}}), DEPLOYMENT_KIND).sentences()
    assert said[MOST:] == ["and 19980 more"]
    assert max(map(len, said)) < 500


def test_a_long_value_is_shown_in_part() -> None:
    (said,) = asked(merged(MINIMAL, spec(advisor={"objective": "x" * 10_000})), DEPLOYMENT_KIND).sentences()[:-1]
    assert len(said) < 200


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400])
def test_a_number_that_json_does_not_have_is_refused(number: str, tmp_path: Path) -> None:
    file = tmp_path / "slmd.json"
    file.write_text(json.dumps(merged(MINIMAL, spec(profiling={"maxGpuMinutes": "X"}))).replace('"X"', number))
    with pytest.raises(Refused, match=r"spec\.profiling\.maxGpuMinutes: no number that JSON has"):
        deployment(str(file))
