"""Thousands of specs against a real API server: each is refused at admission, or ends in a plan with a valid status and valid names.

And `kubectl slm plan` says of each, without a cluster, what the API server says.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from slm_operator.api.base import LABEL
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.api.profile import SLMProfileSpec, SLMProfileStatus
from slm_operator.api.status import SLMDeploymentStatus
from slm_operator.cli.inputs.admission.answer import asked
from slm_operator.planning.actions import Apply, Plan, WriteStatus
from slm_operator.planning.deployment.kept import resolved
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import Assignment, ProfileView
from slm_operator.watch import custom_resources

from tests import builders as build
from tests.fuzz.door import Door, door, fuzzed
from tests.fuzz.specs import NAMES, specs
from tests.testbed.cluster import apply_crds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.control_plane import ControlPlane

pytestmark = [pytest.mark.control_plane, pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
SUITE, RECORDED = 1, 20
"""Rounds: of `make test`, and of `make record fuzz`."""
DEPLOYMENTS, PROFILES = 900, 225
"""Examples of a round."""
ROUNDS = pytest.mark.parametrize("rounds", [SUITE, pytest.param(RECORDED, marks=pytest.mark.record)])
PACKS = 300
MANY = build.many_packs(PACKS).pods
EACH_ON_ONE = build.workload("chat", replicas=PACKS, ready=PACKS)
FUZZED = settings(
    database=None,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def schema_of(plural: str) -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / f"crds/slm-operator.io_{plural}.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


@pytest.fixture(scope="module")
def opened(control_plane: ControlPlane) -> Iterator[Door]:
    apply_crds(control_plane, ROOT / "crds")
    control_plane.kubectl("get", "slmd,slmp")
    at = door(control_plane)
    yield at
    at.connection.close()


@ROUNDS
def test_every_deployment_is_refused_or_planned(opened: Door, rounds: int) -> None:
    before = opened.accepted + opened.refused

    @settings(FUZZED, max_examples=rounds * DEPLOYMENTS)
    @given(specs(schema_of("slmdeployments")), NAMES)
    def one(spec: Any, name: str) -> None:
        stored = opened.ask("SLMDeployment", spec, name)
        is_answered_offline("SLMDeployment", spec, name, stored)
        if stored is not None:
            SLMDeploymentSpec.model_validate(stored["spec"], extra="forbid")
            deployment_is_planned(stored)

    one()
    assert opened.accepted + opened.refused - before >= rounds * DEPLOYMENTS
    assert min(opened.accepted, opened.refused) >= rounds * DEPLOYMENTS // 10, "both doors must be seen"


@ROUNDS
def test_every_profile_is_refused_or_planned(opened: Door, rounds: int) -> None:
    before = opened.accepted + opened.refused
    schema = schema_of("slmprofiles")
    schema["properties"].pop("measurements")  # documents have a fuzz of their own: tests/unit/cli/test_fuzz.py

    @settings(FUZZED, max_examples=rounds * PROFILES)
    @given(specs(schema), NAMES)
    def one(spec: Any, name: str) -> None:
        stored = opened.ask("SLMProfile", spec, name)
        is_answered_offline("SLMProfile", spec, name, stored)
        if stored is not None:
            SLMProfileSpec.model_validate(stored["spec"], extra="forbid")
            record = custom_resources.profile(named(stored))
            plan = plan_profile(ProfileView(profile=record), build.SETTINGS, build.NOW)
            written(plan, SLMProfileStatus)

    one()
    assert opened.accepted + opened.refused - before >= rounds * PROFILES


def is_answered_offline(kind: str, spec: Any, name: str, stored: dict[str, Any] | None) -> None:
    """`kubectl slm plan` takes what the API server takes, and fills in the same defaults."""
    answer = asked(fuzzed(kind, spec, name), kind)
    assert (stored is not None) == (answer.findings == ()), answer.sentences()
    assert stored is None or stored["spec"] == answer.kept["spec"]


def deployment_is_planned(stored: dict[str, Any]) -> None:
    """First without a profile, then with one, without and with room for its replicas, and with replicas on many GPUs."""
    record = resolved(custom_resources.deployment(named(stored)), None, build.SETTINGS.defaults)
    alone = build.deployment_view(record, None)
    written(plan_deployment(alone, build.SETTINGS, build.NOW), SLMDeploymentStatus)
    if record.spec is None:
        return
    profile = build.profile(record, build.imported())
    measured = build.deployment_view(record, profile)
    wants = demand_of(record, profile, measured.advice)
    slice_class = wants.slice_class if wants is not None else None
    for assignment in (None, Assignment(slice_class=slice_class, nodes=("gpu-1",), slots=4)):
        view = replace(measured, assignment=assignment)
        written(plan_deployment(view, build.SETTINGS, build.NOW), SLMDeploymentStatus)
    written(
        plan_deployment(replace(view, pods=MANY, workload=EACH_ON_ONE), build.SETTINGS, build.NOW), SLMDeploymentStatus
    )


def named(stored: dict[str, Any]) -> dict[str, Any]:
    """The object as it would be watched: a dry run gives no uid nor version."""
    return stored | {"metadata": stored["metadata"] | {"uid": "uid-fuzzed", "resourceVersion": "1", "generation": 1}}


def written(plan: Plan, model: type[SLMDeploymentStatus | SLMProfileStatus]) -> None:
    """One status, valid, with a Ready that has a reason and a message; manifests that can be sent."""
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    status = model.model_validate(write.status, extra="forbid")
    ready = next(condition for condition in status.conditions if condition.type == "Ready")
    assert ready.reason
    assert ready.message
    for action in plan.actions:
        if isinstance(action, Apply):
            named = action.manifest["metadata"]["name"]
            assert re.fullmatch(LABEL, named), named
            assert len(named) <= 63, named
            assert action.manifest["kind"] != "Service" or named[0].isalpha()
