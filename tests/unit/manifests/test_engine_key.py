"""`spec.engine.apiKeySecretRef`: the key that clients must send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slm_core.engines import registry
from slm_core.measurements import SharingMode
from slm_operator.manifests.profile import profile, profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.manifests.replicas import Nodes, pod_template
from slm_operator.manifests.served import PackMeans
from slm_operator.planning.deployment.plan import plan_deployment

from tests import builders as build
from tests.other_engine.port import OtherEngine
from tests.unit.planning.test_deployment import applied, blocking

if TYPE_CHECKING:
    from slm_operator.manifests.engine import Serving

KEYED: dict[str, Any] = {"engine": {"apiKeySecretRef": {"name": "chat-key"}}}
VARIABLE = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "chat-key", "key": "api-key"}}}
MEANS = PackMeans(supervisor_image="slm-operator:1", router_image="haproxy:1")
SERVED: dict[str, tuple[Serving, PackMeans | None]] = {
    "an engine alone in its pod": (build.serving(SharingMode.TIME_SLICING, 2), None),
    "the engines of a pack": (build.pack_serving(SharingMode.MPS, 2), MEANS),
}


def variables(spec: dict[str, Any], serving: Serving, means: PackMeans | None) -> list[dict[str, Any]]:
    record = build.deployment(spec=spec)
    template = pod_template(record, build.spec_of(record), serving, Nodes(opt_in_label="x"), means)
    (engine,) = (one for one in template["spec"]["containers"] if one["name"] == "engine")
    return [one for one in engine["env"] if one["name"] == "VLLM_API_KEY"]


@pytest.mark.parametrize("case", SERVED)
def test_the_kubelet_gives_the_key_to_who_serves(case: str) -> None:
    serving, means = SERVED[case]
    assert variables(KEYED, serving, means) == [VARIABLE]
    assert variables({}, serving, means) == []
    named = {"engine": {"apiKeySecretRef": {"name": "chat-key", "key": "other"}}}
    assert variables(named, serving, means)[0]["valueFrom"]["secretKeyRef"]["key"] == "other"


def test_a_key_is_in_no_profile_and_changes_no_profiles_key() -> None:
    record = build.deployment(spec=KEYED)
    assert "apiKeySecretRef" not in profile(record, build.spec_of(record))["spec"]["engine"]
    assert profile_key(profile_spec(build.spec_of(record))) == profile_key(profile_spec(build.deployment_spec()))


def test_an_engine_without_keys_is_not_served_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for would be left out in silence, and everybody could ask."""
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, OtherEngine()))
    other = KEYED["engine"] | {"command": ["python3", "-m", "other_engine"]}
    made = plan_deployment(
        build.deployment_view(build.deployment(spec={"engine": other}), None), build.SETTINGS, build.NOW
    )
    reason, message, stalls = blocking(made)
    assert (reason, stalls) == ("InvalidSpec", True)
    assert "spec.engine.apiKeySecretRef" in message
    assert applied(made) == {}
