"""The operator's defaults in a pod: below what spec and podTemplate say."""

from __future__ import annotations

from typing import Any

import pytest
from slm_core.measurements import SharingMode
from slm_operator.defaults import NOTHING, CaBundle, Defaults, EngineResources, Kept, Proxy
from slm_operator.manifests.defaulted import in_pod, measured_with
from slm_operator.manifests.profile import Where, profile_job
from slm_operator.manifests.replicas import Nodes, pod_template
from slm_operator.manifests.served import PackMeans
from slm_operator.settings import Profiling, Settings

from tests import builders as build

ALL = Defaults(
    engine_image="mirror.example/vllm:1",
    image_pull_secrets=("mirror",),
    runtime_class_name="nvidia",
    hub_endpoint="https://hub.example",
    proxy=Proxy(http="http://proxy:3128", https="http://proxy:3128"),
    ca_bundle=CaBundle(config_map="trust", key="bundle.pem"),
    resources=EngineResources(cpu="4", memory="16Gi"),
)
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
HERE = Nodes(opt_in_label="slm-operator.io/managed")


def pod(spec: dict[str, Any] | None = None, defaults: Defaults = ALL) -> dict[str, Any]:
    """A replica's."""
    record = build.deployment(spec=spec, defaults=Kept(values=defaults, made_of=""))
    read = measured_with(build.spec_of(record), defaults)
    template = pod_template(record, read, build.serving(SharingMode.TIME_SLICING, 2), HERE)
    return dict(template["spec"])


def container(spec: dict[str, Any] | None = None, defaults: Defaults = ALL) -> dict[str, Any]:
    (engine,) = pod(spec, defaults)["containers"]
    return dict(engine)


def variables(spec: dict[str, Any] | None = None, defaults: Defaults = ALL) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(spec, defaults)["env"]}


def by_hand(**engine: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": {"containers": [{"name": "engine"} | engine]}}}


def test_a_replica_has_every_default() -> None:
    made = pod()
    assert made["tolerations"] == [GPU_TAINT]
    assert made["imagePullSecrets"] == [{"name": "mirror"}]
    assert made["runtimeClassName"] == "nvidia"
    assert (
        variables().items()
        >= {
            "HF_ENDPOINT": "https://hub.example",
            "HTTP_PROXY": "http://proxy:3128",
            "HTTPS_PROXY": "http://proxy:3128",
            "NO_PROXY": "localhost,127.0.0.1,::1,.svc,.cluster.local",
            "SSL_CERT_FILE": "/etc/slm-ca/ca.crt",
            "REQUESTS_CA_BUNDLE": "/etc/slm-ca/ca.crt",
        }.items()
    )
    (volume,) = (one for one in made["volumes"] if one["name"] == "slm-ca")
    assert volume["configMap"] == {"name": "trust", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
    assert {"name": "slm-ca", "mountPath": "/etc/slm-ca", "readOnly": True} in container()["volumeMounts"]
    for part in ("requests", "limits"):
        assert container()["resources"][part].items() >= {"cpu": "4", "memory": "16Gi"}.items()


def test_without_defaults_a_pod_is_as_it_was() -> None:
    record, read = build.deployment(), build.deployment_spec()
    before = pod_template(record, read, build.serving(SharingMode.TIME_SLICING, 2), HERE)
    assert in_pod(before, NOTHING) == before
    assert pod(defaults=NOTHING) == before["spec"]


@pytest.mark.parametrize("packed", [False, True], ids=["an engine", "a pack"])
def test_no_container_writes_into_its_image_where_asked(*, packed: bool) -> None:
    closed = Defaults(read_only_root_filesystem=True)
    record = build.deployment(defaults=Kept(values=closed, made_of=""))
    serving = build.pack_serving(SharingMode.MPS, 2) if packed else build.serving(SharingMode.MPS, 2)
    means = PackMeans(supervisor_image="slm-operator:1", router_image="haproxy:1") if packed else None
    made = pod_template(record, build.spec_of(record), serving, HERE, means)["spec"]
    containers = [*made["containers"], *made.get("initContainers", [])]
    assert len(containers) == (3 if packed else 1)
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers)
    assert all(one["securityContext"]["allowPrivilegeEscalation"] is False for one in containers)


OWN: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "an image": ({"engine": {"image": "own:1"}}, lambda spec: container(spec)["image"], "own:1"),
    "a variable": (
        {"engine": {"env": [{"name": "HF_ENDPOINT", "value": "own"}]}},
        lambda spec: variables(spec)["HF_ENDPOINT"],
        "own",
    ),
    "a variable of the template": (
        by_hand(env=[{"name": "HTTPS_PROXY", "value": ""}]),
        lambda spec: variables(spec)["HTTPS_PROXY"],
        "",
    ),
    "a runtime class": (
        {"podTemplate": {"spec": {"runtimeClassName": "own"}}},
        lambda spec: pod(spec)["runtimeClassName"],
        "own",
    ),
    "no runtime class": (
        {"podTemplate": {"spec": {"runtimeClassName": None}}},
        lambda spec: pod(spec).get("runtimeClassName"),
        None,
    ),
    "a toleration": (
        {"accelerator": {"tolerations": [GPU_TAINT]}},
        lambda spec: pod(spec)["tolerations"],
        [GPU_TAINT],
    ),
    "a secret": (
        {"podTemplate": {"spec": {"imagePullSecrets": [{"name": "own"}]}}},
        lambda spec: [one["name"] for one in pod(spec)["imagePullSecrets"]],
        ["mirror", "own"],
    ),
    "its CPU": (
        by_hand(resources={"limits": {"cpu": "1"}}),
        lambda spec: container(spec)["resources"]["limits"] | {"nvidia.com/gpu.shared": None},
        {"cpu": "1", "memory": "16Gi", "nvidia.com/gpu.shared": None},
    ),
}


@pytest.mark.parametrize("case", OWN)
def test_what_a_spec_says_wins_over_a_default(case: str) -> None:
    spec, seen, expected = OWN[case]
    assert seen(spec) == expected


def test_of_an_amount_of_a_users_own_no_default_is_left() -> None:
    """A request of the default's above the user's own limit would be refused by the API server."""
    made = container(by_hand(resources={"limits": {"cpu": "1"}}))["resources"]
    assert made["limits"]["cpu"] == "1"
    assert made["requests"]["cpu"] != "4"


@pytest.mark.parametrize("template", [{"spec": 7}, {"spec": {"containers": {}}}, by_hand(resources=7)["podTemplate"]])
def test_a_misshapen_template_is_left_for_who_refuses_it(template: dict[str, Any]) -> None:
    spec = build.deployment_spec({"podTemplate": template})
    assert measured_with(spec, ALL).pod_template == template


def test_a_measurement_has_the_defaults_of_the_day() -> None:
    spec = build.profile_spec({"podTemplate": {"spec": {"imagePullSecrets": [{"name": "own"}]}}})
    record = build.profile(build.deployment(), spec=spec)
    settings = Settings(defaults=ALL, profiling=Profiling(image="operator:1", image_pull_secrets=("operators",)))
    made = profile_job(record, spec, settings, Where(opt_in_label=None))["spec"]["template"]["spec"]
    assert [one["name"] for one in made["imagePullSecrets"]] == ["mirror", "own", "operators"]
    assert made["tolerations"] == [GPU_TAINT]
    assert made["runtimeClassName"] == "nvidia"
    (engine,) = made["containers"]
    assert {"name": "HF_ENDPOINT", "value": "https://hub.example"} in engine["env"]
    assert engine["image"] == build.IMAGE_OF_PROFILES
