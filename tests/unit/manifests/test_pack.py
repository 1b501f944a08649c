"""The pod that runs a whole pack: one whole GPU, a supervisor and a router, the same for the same spec and advice."""

from __future__ import annotations

from typing import Any

import pytest
from slm_core.engines.registry import default
from slm_core.measurements import SharingMode
from slm_core.pack_pod import HTTP_PORT, POD_GRACE_SECONDS, STATUS_PORT
from slm_operator.api import names
from slm_operator.manifests.overlay import refused_fields, refused_in_a_pack
from slm_operator.manifests.pack import router_of
from slm_operator.manifests.replicas import Nodes, pod_template, served_pack
from slm_operator.manifests.router import router_config
from slm_operator.manifests.served import PackMeans, Served
from slm_operator.partitioning.node_terms import product_terms
from slm_runtime import cli
from slm_runtime.serve.arguments import settings_of

from tests import builders as build
from tests.node_selector import admits

MEANS = PackMeans(supervisor_image="registry/operator@sha256:a", router_image="registry/haproxy@sha256:b")
HERE = Nodes(opt_in_label=names.OPT_IN_LABEL)
PACK = build.pack_serving(SharingMode.MPS, 4)


def template(spec: dict[str, Any] | None = None, means: PackMeans = MEANS) -> dict[str, Any]:
    record = build.deployment(spec=spec)
    return pod_template(record, build.spec_of(record), PACK, HERE, means)


def engines(made: dict[str, Any]) -> dict[str, Any]:
    (container,) = made["spec"]["containers"]
    return dict(container)


def router(made: dict[str, Any]) -> dict[str, Any]:
    return next(dict(one) for one in made["spec"]["initContainers"] if one["name"] == "router")


def test_a_pack_asks_for_one_gpu_and_the_room_of_all_engines() -> None:
    assert engines(template())["resources"]["limits"] == {"nvidia.com/gpu": "1", "cpu": "9", "memory": "37Gi"}


def test_resources_of_a_pod_template_are_those_of_one_engine() -> None:
    one = {"name": "engine", "resources": {"limits": {"cpu": "1", "memory": "4Gi"}}}
    made = engines(template({"podTemplate": {"spec": {"containers": [one]}}}))
    assert made["resources"]["limits"] == {"nvidia.com/gpu": "1", "cpu": "5", "memory": "17Gi"}


def test_a_pack_selects_no_node_that_opted_in() -> None:
    made = template({"accelerator": {"nodeSelector": {"pool": "a"}}})["spec"]
    assert made["nodeSelector"] == {"pool": "a"}


def test_the_supervisor_understands_what_it_is_given() -> None:
    spec = {"model": {"uri": "hf://facebook/opt-125m", "revision": "abc"}, "engine": {"args": ["--enforce-eager"]}}
    words = engines(template(spec))["args"]
    at = words.index("--")
    read = settings_of(cli._parser().parse_args(words[:at]), words[at + 1 :])
    assert (read.engines, read.mode, read.batch_size, read.kv_bytes) == (4, SharingMode.MPS, 96, 9_000_000_000)
    assert (read.gpu_product, read.gpu_memory_bytes) == ("NVIDIA-H100-80GB-HBM3", 80 << 30)
    assert {"--revision", "--enforce-eager"} <= set(read.words(0))
    assert (read.served_name, read.status_port, read.max_in_flight) == ("chat", STATUS_PORT, 192)


def test_the_router_sidecar_reads_its_pod_s_annotation() -> None:
    made = template()
    (volume,) = (one for one in made["spec"]["volumes"] if one["name"] == "router")
    (item,) = volume["downwardAPI"]["items"]
    read = build.spec_of(build.deployment())
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{names.ROUTER_ANNOTATION}']"
    assert made["metadata"]["annotations"][names.ROUTER_ANNOTATION] == router_config(router_of(read, PACK))
    assert router(made)["restartPolicy"] == "Always"
    assert router(made)["volumeMounts"][0]["name"] == volume["name"]


def test_the_port_of_requests_is_named_on_the_engines_container() -> None:
    assert engines(template())["ports"] == [{"name": "http", "containerPort": HTTP_PORT}]


def test_liveness_is_the_supervisor_s_alone() -> None:
    made = template()
    assert engines(made)["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": STATUS_PORT}
    assert "livenessProbe" not in router(made)


def test_the_pod_s_grace_covers_supervisor_and_router() -> None:
    assert template()["spec"]["terminationGracePeriodSeconds"] == POD_GRACE_SECONDS


def test_every_container_of_a_pack_keeps_the_restricted_standard() -> None:
    made = template()["spec"]
    assert made["securityContext"]["runAsNonRoot"]
    for one in (*made["containers"], *made["initContainers"]):
        assert one["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_product_is_bound_by_the_first_label_that_a_node_has() -> None:
    first, second, last = product_terms("NVIDIA-L4", {"cloud.google.com/gke-accelerator": "nvidia-l4"})
    none = {"key": "nvidia.com/gpu.product", "operator": "DoesNotExist"}
    cloud = "cloud.google.com/gke-accelerator"
    assert first == ({"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4"]},)
    assert second == (none, {"key": cloud, "operator": "In", "values": ["nvidia-l4"]})
    assert last == (none, {"key": cloud, "operator": "DoesNotExist"})


def test_the_measured_product_is_bound_unless_another_is_asked() -> None:
    def products(spec: dict[str, Any]) -> list[str]:
        required = template(spec)["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return list(required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"])

    assert products({}) == ["NVIDIA-H100-80GB-HBM3"]
    assert products({"accelerator": {"products": ["NVIDIA-L4"]}}) == ["NVIDIA-L4"]


def test_a_pack_is_kept_off_parts_and_where_its_user_wants_it() -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    asked = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone]}}}
    pod = template({"podTemplate": {"spec": {"affinity": asked}}})["spec"]
    right = {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert admits(pod, right)
    assert not admits(pod, right | {"zone": "b"})
    assert not admits(pod, right | {"nvidia.com/gpu.product": "NVIDIA-L4"})
    assert not admits(pod, right | {"nvidia.com/gpu.replicas": "4"})
    assert not admits(pod, right | {"nvidia.com/mig.config": "all-1g.10gb"})


def test_a_stand_in_gpu_is_bound_to_no_product() -> None:
    made = template(means=MEANS.model_copy(update={"device": "cpu"}))
    assert "nvidia.com/gpu.product" not in str(made["spec"]["affinity"])
    assert "--gpu-product" not in engines(made)["args"]


def test_a_pack_names_the_operators_pull_secrets() -> None:
    made = template(means=MEANS.model_copy(update={"pull_secrets": ("registry",)}))
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert "imagePullSecrets" not in template(means=MEANS)["spec"]


NEWER = PackMeans(
    supervisor_image="registry/operator@sha256:c",
    router_image="registry/haproxy@sha256:d",
    pull_secrets=("registry",),
    product_labels={"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"},
)


def served_by(spec: dict[str, Any], means: PackMeans, former: Served | None) -> Served:
    record = build.deployment(spec=spec)
    pack = served_pack(record, build.spec_of(record), PACK, means, former)
    return build.replica_fleet(PACK).served.model_copy(update={"pack": pack})


def test_other_images_in_the_settings_restart_no_pack() -> None:
    before = served_by({}, MEANS, None)
    after = served_by({}, NEWER, before)
    assert after.pack == before.pack
    assert after.pack is not None
    assert after.pack.means == MEANS


CHANGES: dict[str, dict[str, Any]] = {
    "image": {"engine": {"image": "vllm/vllm-openai:v9"}},
    "model": {"model": {"uri": "pvc://models/other"}},
    "variable": {"engine": {"env": [{"name": "A", "value": "b"}]}},
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_pod_takes_the_present_images(case: str) -> None:
    after = served_by(CHANGES[case], NEWER, served_by({}, MEANS, None))
    assert after.pack is not None
    assert after.pack.means == NEWER


def test_one_engine_on_any_node_has_no_router() -> None:
    record = build.deployment()
    single = build.pack_serving(SharingMode.EXCLUSIVE, 1)
    made = pod_template(record, build.spec_of(record), single, HERE, MEANS)
    assert "initContainers" not in made["spec"]
    assert made["spec"]["nodeSelector"] == {}
    assert "nodeAffinity" in made["spec"]["affinity"]
    assert engines(made)["command"] == list(default().command)
    assert engines(made)["resources"]["limits"] == {"nvidia.com/gpu": "1", "cpu": "2", "memory": "9Gi"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a sandbox": ({"runtimeClassName": "gvisor"}, "engines share a GPU in a sandbox (gvisor)"),
    "the host's network": ({"hostNetwork": True}, "hostNetwork"),
    "a container on the router's port": (
        {"containers": [{"name": "proxy", "image": "x", "ports": [{"containerPort": 8000}]}]},
        "containers[name=proxy].ports: 8000 is the pack's",
    ),
    "a container on an engine's port": (
        {"containers": [{"name": "proxy", "image": "x", "ports": [{"containerPort": 8102}]}]},
        "containers[name=proxy].ports: 8102 is the pack's",
    ),
    "a container with the router's name": ({"containers": [{"name": "router", "image": "x"}]}, "name=router"),
    "an init container with the engine's name": ({"initContainers": [{"name": "engine", "image": "x"}]}, "name=engine"),
    "a volume with the runtime's name": ({"volumes": [{"name": "runtime", "emptyDir": {}}]}, "volumes[name=runtime]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_overlay_that_a_pack_cannot_have_is_refused(case: str) -> None:
    spec, words = REFUSED[case]
    (said,) = refused_in_a_pack({"spec": spec})
    assert words in said


ALLOWED: dict[str, dict[str, Any]] = {
    "a sidecar": {"containers": [{"name": "log", "image": "x", "ports": [{"containerPort": 9000}]}]},
    "resources of an engine": {"containers": [{"name": "engine", "resources": {"limits": {"cpu": "4"}}}]},
    "a volume": {"volumes": [{"name": "cache", "emptyDir": {}}]},
}


@pytest.mark.parametrize("case", ALLOWED)
def test_an_overlay_that_leaves_the_pack_alone_is_taken(case: str) -> None:
    assert refused_in_a_pack({"spec": ALLOWED[case]}) == ()


@pytest.mark.parametrize("field", ["command", "args", "image", "ports", "livenessProbe", "lifecycle"])
def test_what_makes_the_engines_container_is_nobody_else_s(field: str) -> None:
    (said,) = refused_fields({"spec": {"containers": [{"name": "engine", field: []}]}})
    assert f"containers[name=engine].{field} is set by" in said


def test_a_command_of_one_s_own_is_what_the_supervisor_starts() -> None:
    words = engines(template({"engine": {"command": ["/opt/serve", "vllm"]}}))["args"]
    at = words.index("--")
    assert words[at + 1 : at + 4] == ["/opt/serve", "vllm", "--"]
