"""The operator's defaults: a deployment has those that it was made with, until somebody asks for others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api import names
from slm_operator.defaults import NOTHING, Defaults, EngineResources, Proxy, read_kept
from slm_operator.manifests.profile import profile_name, profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.planning.deployment.kept import older, resolved
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.watch import custom_resources

from tests import builders as build

from .test_deployment import READY, TWO_PER_GPU, applied, status

if TYPE_CHECKING:
    from slm_operator.planning.views import DeploymentView
    from slm_operator.watch.records import DeploymentRecord, WorkloadRecord

FIRST = Defaults(
    engine_image="mirror.example/vllm:1", image_pull_secrets=("mirror",), hub_endpoint="https://hub.example"
)
OTHERS: dict[str, dict[str, Any]] = {
    "engineImage": {"engine_image": "mirror.example/vllm:2"},
    "imagePullSecrets": {"image_pull_secrets": ("other",)},
    "tolerations": {"tolerations": ()},
    "runtimeClassName": {"runtime_class_name": "nvidia"},
    "readOnlyRootFilesystem": {"read_only_root_filesystem": True},
    "hubEndpoint": {"hub_endpoint": ""},
    "proxy": {"proxy": Proxy(https="http://proxy:3128")},
    "resources": {"resources": EngineResources(cpu="4", memory="16Gi")},
}
"""By its name in the settings, one default that is another than in FIRST."""


def with_another(name: str) -> Defaults:
    return FIRST.model_copy(update=OTHERS[name])


def raw(spec: dict[str, Any] | None = None, *, upgrade: str | None = None, **head: Any) -> dict[str, Any]:
    annotated = {"annotations": {names.UPGRADE_ANNOTATION: upgrade}} if upgrade is not None else {}
    return build.raw_deployment(spec=TWO_PER_GPU | (spec or {}), **annotated, **head)


def served(record: DeploymentRecord, now: Defaults, workload: WorkloadRecord | None = None) -> dict[str, Any]:
    """What the operator makes of a deployment under these settings: its status, and its Deployment."""
    made = plan_deployment(view_of(resolved(record, workload, now), workload), build.SETTINGS, build.NOW)
    return {"status": status(made), "manifest": applied(made)["Deployment"]}


def view_of(record: DeploymentRecord, workload: WorkloadRecord | None = None) -> DeploymentView:
    """With its measurements, and slices of what is advised."""
    slices = replace(READY, slice_class=build.MPS_2)
    profile = build.profile(record, build.imported())
    return build.deployment_view(record, profile, assignment=slices, workload=workload)


def workload_of(manifest: dict[str, Any]) -> WorkloadRecord:
    text = manifest["metadata"]["annotations"][names.SERVED_ANNOTATION]
    return build.workload("chat", replicas=2, ready=2, served=text)


BEFORE = served(custom_resources.deployment(raw()), FIRST)
REMEMBERED: dict[str, tuple[dict[str, Any], WorkloadRecord | None]] = {
    "by both": (BEFORE["status"], workload_of(BEFORE["manifest"])),
    "by its status, while there is nothing else": (BEFORE["status"], None),
    "by its Deployment, as a restored one": ({}, workload_of(BEFORE["manifest"])),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("memory", REMEMBERED)
def test_a_changed_default_changes_no_pod_and_no_key(name: str, memory: str) -> None:
    known, workload = REMEMBERED[memory]
    record = custom_resources.deployment(raw(status=known))
    after = served(record, with_another(name), workload)
    assert after["manifest"] == BEFORE["manifest"]
    assert after["status"]["defaults"] == BEFORE["status"]["defaults"]
    assert key_of(record, workload, with_another(name)) == key_of(custom_resources.deployment(raw()), None, FIRST)


def key_of(record: DeploymentRecord, workload: WorkloadRecord | None, now: Defaults) -> str:
    spec = resolved(record, workload, now).spec
    assert spec is not None
    return profile_key(profile_spec(spec))


def kept_by(record: DeploymentRecord, now: Defaults, memory: str = "by both") -> Defaults:
    found = resolved(record, REMEMBERED[memory][1], now).defaults
    assert found is not None
    return found.values


NEWER = with_another("engineImage")
KEEPING: dict[str, dict[str, Any]] = {
    "another number of replicas": {"replicas": 7},
    "another SLO": {"slo": {"itl": {"maxMs": 20}}},
    "another way to share": {"sharing": {"mode": "Exclusive"}},
    "a pause": {"paused": True},
    "another load": {"workload": {"concurrencyPerGpu": 3}},
}
TAKING: dict[str, dict[str, Any]] = {
    "another model": {"model": {"uri": "pvc://models/other"}},
    "another argument": {"engine": {"args": ["--seed=7"]}},
    "another toleration": {"accelerator": {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}},
    "another template": {"podTemplate": {"metadata": {"labels": {"team": "a"}}}},
}


@pytest.mark.parametrize("case", KEEPING)
def test_a_spec_whose_pods_stay_the_same_keeps_its_defaults(case: str) -> None:
    assert kept_by(custom_resources.deployment(raw(KEEPING[case], status=BEFORE["status"])), NEWER) == FIRST


@pytest.mark.parametrize("case", TAKING)
def test_a_spec_of_other_pods_takes_the_defaults_of_now(case: str) -> None:
    record = custom_resources.deployment(raw(TAKING[case], status=BEFORE["status"]))
    assert kept_by(record, NEWER) == NEWER
    # and keeps those, although its Deployment has the former ones until the new ones are measured
    again = custom_resources.deployment(raw(TAKING[case], status={"defaults": given(record, NEWER)}))
    assert kept_by(again, FIRST) == NEWER


def given(record: DeploymentRecord, now: Defaults) -> dict[str, Any]:
    found = resolved(record, REMEMBERED["by both"][1], now).defaults
    assert found is not None
    return found.given()


def test_a_spec_put_back_has_its_former_defaults_again() -> None:
    changed = custom_resources.deployment(raw(TAKING["another argument"], status=BEFORE["status"]))
    back = custom_resources.deployment(raw(status={"defaults": given(changed, NEWER)}))
    assert kept_by(back, NEWER) == FIRST


def test_each_value_of_the_upgrade_annotation_asks_once() -> None:
    asked = custom_resources.deployment(raw(status=BEFORE["status"], upgrade="1"))
    assert kept_by(asked, NEWER) == NEWER
    honoured = {"defaults": given(asked, NEWER)}
    assert kept_by(custom_resources.deployment(raw(status=honoured, upgrade="1")), FIRST) == NEWER
    assert kept_by(custom_resources.deployment(raw(status=honoured)), FIRST) == NEWER
    assert kept_by(custom_resources.deployment(raw(status=honoured, upgrade="2")), FIRST) == FIRST


def test_who_was_made_before_there_were_defaults_has_none() -> None:
    workload = build.workload("chat", replicas=2, ready=2)
    record = custom_resources.deployment(raw({"engine": {"image": "vllm/vllm-openai:v0.31.0"}}))
    unresolved = build.deployment(spec=TWO_PER_GPU | {"engine": {"image": "vllm/vllm-openai:v0.31.0"}})
    template = served(record, FIRST, workload)["manifest"]["spec"]["template"]
    made = plan_deployment(view_of(unresolved, workload), build.SETTINGS, build.NOW)
    assert template == applied(made)["Deployment"]["spec"]["template"]
    assert template["spec"]["tolerations"] == []


def test_a_spec_that_cannot_be_read_forgets_no_default() -> None:
    broken = custom_resources.deployment(raw({"model": {"uri": "no"}}, status=BEFORE["status"]))
    assert broken.broken is not None
    assert kept_by(broken, NEWER) == FIRST
    assert resolved(custom_resources.deployment(raw({"model": {"uri": "no"}})), None, NEWER).defaults is None


def test_what_is_written_down_is_read_again() -> None:
    kept = read_kept(BEFORE["status"]["defaults"])
    assert kept is not None
    assert kept.values == FIRST
    values = BEFORE["status"]["defaults"]["values"]
    newer = values | {"ofANewerVersion": 1, "tolerations": [one | {"newer": 1} for one in values["tolerations"]]}
    assert read_kept(BEFORE["status"]["defaults"] | {"values": newer}) == kept


@pytest.mark.parametrize("text", [None, "x", {}, {"values": {"engineImage": "A B"}, "madeOf": "x"}])
def test_what_says_no_defaults_is_none(text: object) -> None:
    assert read_kept(text) is None


def test_the_profile_is_measured_in_the_default_image() -> None:
    record = resolved(custom_resources.deployment(raw()), None, FIRST)
    made = applied(plan_deployment(build.deployment_view(record, None), build.SETTINGS, build.NOW))["SLMProfile"]
    assert made["spec"]["engine"]["image"] == FIRST.engine_image
    assert made["metadata"]["name"] == profile_name(build.spec_of(record))


def test_how_a_node_or_a_model_is_reached_is_in_no_profile() -> None:
    record = resolved(custom_resources.deployment(raw()), None, FIRST)
    made = profile_spec(build.spec_of(record))
    plain = profile_spec(build.spec_of(resolved(custom_resources.deployment(raw()), None, NOTHING)))
    assert made.model_copy(update={"engine": plain.engine}) == plain


def test_taints_that_are_tolerated_by_default_are_no_obstacle() -> None:
    record = resolved(custom_resources.deployment(raw()), None, FIRST)
    view = view_of(record)
    wants = demand_of(record, view.profile, view.advice)
    assert wants is not None
    assert [one.key for one in wants.tolerations] == ["nvidia.com/gpu"]


@pytest.mark.parametrize("name", OTHERS)
def test_who_has_an_older_default_is_told_its_name(name: str) -> None:
    record = custom_resources.deployment(raw(status=BEFORE["status"]))
    kept = read_kept(BEFORE["status"]["defaults"])
    assert kept is not None
    assert older(record, kept, with_another(name)) == (name,)
    assert older(record, kept, FIRST) == ()


def test_an_image_of_its_own_is_no_older_default() -> None:
    record = custom_resources.deployment(raw({"engine": {"image": "own:1"}}, status=BEFORE["status"]))
    kept = read_kept(BEFORE["status"]["defaults"])
    assert kept is not None
    assert older(record, kept, NEWER) == ()
