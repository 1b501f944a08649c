"""The table of manifests on a real API server: it takes and refuses what `kubectl slm plan` says it does, on the same fields."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from slm_operator.cli.inputs.admission.answer import asked
from slm_operator.cli.inputs.admission.former_names import RENAMED
from slm_operator.cli.inputs.admission.structure import as_sent

from tests.fuzz.door import Door, door
from tests.testbed.cluster import apply_crds
from tests.testbed.control_plane import ControlPlane
from tests.unit.cli.admission_cases import BEYOND, CASES, DEPLOYMENT, OF_FIELDS, PROFILE, SCALARS, Case, spec

pytestmark = pytest.mark.control_plane
CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="module")
def opened(control_plane: ControlPlane) -> Iterator[Door]:
    apply_crds(control_plane, CRDS)
    at = door(control_plane)
    yield at
    at.connection.close()


def refused_fields(answer: dict[str, Any]) -> set[str]:
    """The fields that an API server names. NB: of metadata of a wrong type it names none.

    A field with a dot before it is one of the scale subresource, which cannot be read of what is wrong elsewhere.
    """
    unknown = re.findall(r'unknown field "([^"]*)"', answer["message"])
    causes = (answer.get("details") or {}).get("causes", ())
    return {*unknown, *(one["field"] for one in causes if one["field"] != "<nil>" and not one["field"].startswith("."))}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_api_server_answers_as_plan_does(opened: Door, case: Case) -> None:
    manifest = as_sent(case.manifest())
    status, answer = opened.create(manifest)
    offline = asked(manifest, case.kind)
    said = {finding.path for finding in offline.findings}
    if case.refused is None:
        assert (status, said) == (201, set()), answer
        assert answer["spec"] == offline.kept["spec"]
        return
    named = refused_fields(answer)
    assert status in {400, 422}, answer
    assert case not in OF_FIELDS or case.says in answer["message"]
    assert not named or any(path.startswith(case.refused) for path in named), answer["message"]
    assert named <= said, answer["message"]


@pytest.mark.parametrize("case", BEYOND, ids=lambda case: case.name)
def test_an_api_server_takes_what_only_the_operator_can_see(opened: Door, case: Case) -> None:
    status, answer = opened.create(case.manifest())
    assert status == 201, answer


@pytest.mark.parametrize("old", RENAMED)
def test_an_api_server_knows_no_former_name(opened: Door, old: str) -> None:
    kind = PROFILE if old.startswith("spec.search") else DEPLOYMENT
    change: Any = 1
    for name in reversed(old.split(".")):
        change = {name: change}
    manifest = Case(old, change, kind=kind).manifest()
    _, answer = opened.create(manifest)
    assert old in refused_fields(answer)
    assert old in {finding.path for finding in asked(manifest, kind).findings}


def test_kubectl_reads_yaml_as_plan_does(control_plane: ControlPlane, opened: Door) -> None:
    text = yaml.safe_dump(Case("yaml", spec(podTemplate={"x": "HERE"})).manifest())
    manifest = text.replace("x: HERE", "x:" + "".join(f"\n    - {written}" for written in SCALARS))
    sent = control_plane.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=manifest)
    assert json.loads(sent)["spec"]["podTemplate"]["x"] == list(SCALARS.values())
