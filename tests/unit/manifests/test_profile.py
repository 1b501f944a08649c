"""A profile holds what is measured, and nothing of what is only decided or served with it."""

from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.manifests.profile import Where, profile, profile_args, profile_spec
from slm_operator.manifests.profile_key import profile_key

from tests import builders as build

HERE = Where(opt_in_label=names.OPT_IN_LABEL)
MODEL = {"uri": "hf://org/opt"}
UNMEASURED: dict[str, dict[str, Any]] = {
    "the name that clients use": {"model": MODEL | {"name": "chat"}},
    "what to do without a fit": {"slo": {"onInfeasible": "Hold"}},
    "the Secret that is read": {"model": MODEL | {"credentialsSecretRef": {"name": "hub"}}},
    "the load to decide for": {"workload": {"concurrencyPerGpu": 7}},
    "the load as a rate": {"workload": {"requestsPerSecondPerGpu": 3.5}},
    "the SLO": {"slo": {"itl": {"maxMs": 20}}},
    "the limits of the search": {"advisor": {"minGain": 0.2}, "profiling": {"maxGpuMinutes": 40}},
    "ways to share": {"sharing": {"mode": "MPS", "maxEnginesPerGpu": 8}},
    "where its pods may run": {"accelerator": {"nodeSelector": {"zone": "a"}}},
    "labels and volumes of its pods": {"podTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": []}}},
    "a log level in the template": {
        "podTemplate": {
            "spec": {"containers": [{"name": "engine", "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]}]}
        }
    },
}


def key(**spec: Any) -> str:
    return profile_key(profile_spec(build.deployment_spec({"model": MODEL} | spec)))


@pytest.mark.parametrize("spec", UNMEASURED.values(), ids=[*UNMEASURED])
def test_field_that_is_not_measured_needs_no_other_profile(spec: dict[str, Any]) -> None:
    assert key(**spec) == key()


@pytest.mark.parametrize(
    "template",
    [
        {"spec": 7},
        {"spec": {"containers": "x"}},
        {"spec": {"containers": [7, {"name": "engine", "resources": 3, "env": {}}]}},
    ],
    ids=str,
)
def test_a_template_of_any_shape_has_a_key(template: dict[str, Any]) -> None:
    assert key(podTemplate=template) == key()


@pytest.mark.parametrize(
    "spec",
    [
        {"model": MODEL | {"revision": "abc"}},
        {"model": MODEL | {"remoteCode": "Trusted"}},
        {"workload": {"inputTokens": 7}},
        {"podTemplate": {"spec": {"containers": [{"name": "engine", "env": [{"name": "VLLM_X", "value": "1"}]}]}}},
        {"podTemplate": {"spec": {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "9"}}}]}}},
        {"engine": {"dtype": "float16"}},
        {"accelerator": {"products": ["NVIDIA-L4"]}},
    ],
    ids=str,
)
def test_field_that_is_measured_needs_its_own_profile(spec: dict[str, Any]) -> None:
    assert key(**spec) != key()


def test_a_profile_has_no_field_that_measuring_ignores() -> None:
    spec = {"model": MODEL, "workload": {"requestsPerSecondPerGpu": 3.5}} | UNMEASURED["what to do without a fit"]
    record = build.deployment(spec=spec | {"accelerator": {"products": ["NVIDIA-L4"]}})
    assert record.spec is not None
    made = profile(record, record.spec)["spec"]
    SLMProfileSpec.model_validate(made, extra="forbid")
    assert made["gpu"]["product"] == "NVIDIA-L4"


def test_a_rate_is_handed_to_who_measures_it() -> None:
    spec = {"model": MODEL, "workload": {"requestsPerSecondPerGpu": 3.5}}
    args = profile_args(build.profile_spec(spec), "p", HERE)
    assert args[args.index("--requests-per-second") + 1] == "3.5"
    assert "--concurrency" not in args
    assert "--requests-per-second" not in profile_args(build.profile_spec({}), "p", HERE)


INHERITED: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "the class of its replicas": ({"spec": {"priorityClassName": "serving", "runtimeClassName": "nvidia"}}, {"spec": {"runtimeClassName": "nvidia"}}),
    "a class and nothing else": ({"spec": {"priorityClassName": "serving"}}, None),
    "a priority by number": ({"metadata": {"labels": {"a": "b"}}, "spec": {"priority": 7}}, {"metadata": {"labels": {"a": "b"}}}),
    "no priority": ({"spec": {"runtimeClassName": "nvidia"}}, {"spec": {"runtimeClassName": "nvidia"}}),
    "no spec": ({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"a": "b"}}}),
}  # fmt: skip


@pytest.mark.parametrize(("template", "made"), INHERITED.values(), ids=INHERITED)
def test_a_profile_inherits_a_pod_template_and_no_priority(
    template: dict[str, Any], made: dict[str, Any] | None
) -> None:
    record = build.deployment(spec={"model": MODEL, "podTemplate": template})
    assert record.spec is not None
    assert profile(record, record.spec)["spec"].get("podTemplate") == made
