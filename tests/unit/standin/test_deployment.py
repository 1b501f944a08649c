"""What is deployed, by installer and version, as NVIDIA's chart and the GPU Operator have it."""

from typing import Any

import pytest

from tests.standin.deployment import objects, pod_of
from tests.standin.releases import (
    BEHAVIOURS,
    CHART,
    CHART_BEFORE,
    CHART_OLD,
    FEATURES,
    GPU_OPERATOR,
    MPS,
    PATH,
    PLUGIN,
    SOUND,
    Release,
    does,
)

RELEASES = (CHART, GPU_OPERATOR)


def daemon_sets(release: Release) -> dict[str, dict[str, Any]]:
    named = set(release.installed.daemon_sets.values())
    return {
        one["metadata"]["name"]: one
        for one in objects(release=release)
        if one["kind"] == "DaemonSet" and one["metadata"]["name"] in named
    }


def env(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container["env"]}


def test_the_chart_s_three_daemon_sets_have_one_selector() -> None:
    made = daemon_sets(CHART).values()
    selectors = [one["spec"]["selector"]["matchLabels"] for one in made]
    assert len(selectors) == 3
    assert all(one == selectors[0] for one in selectors)
    assert "app.kubernetes.io/component" not in selectors[0]


def test_the_gpu_operator_s_daemon_sets_have_one_each() -> None:
    made = daemon_sets(GPU_OPERATOR)
    assert {name: one["spec"]["selector"]["matchLabels"]["app"] for name, one in made.items()} == {
        name: name for name in made
    }


@pytest.mark.parametrize("release", RELEASES, ids=["chart", "GPU Operator"])
def test_mps_pod_sees_all_processes_and_mounts_a_tmpfs(release: Release) -> None:
    pod = pod_of(MPS, release)
    assert pod["hostPID"]
    assert "shareProcessNamespace" not in pod
    first, *_rest = pod["initContainers"]
    assert (first["name"], first["command"]) == ("mps-control-daemon-mounts", ["mps-control-daemon", "mount-shm"])
    assert first["volumeMounts"] == [{"name": "mps-root", "mountPath": "/mps", "mountPropagation": "Bidirectional"}]
    (daemon,) = (one for one in pod["containers"] if one["name"] == "mps-control-daemon-ctr")
    assert daemon["securityContext"] == {"privileged": True}
    for part in (daemon, main_of(pod_of(PLUGIN, release))):
        assert {"name": "mps-shm", "mountPath": "/dev/shm"} in part["volumeMounts"]


def main_of(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = (one for one in pod["containers"] if one["command"] != ["config-manager"])
    return found


@pytest.mark.parametrize(
    ("release", "part", "names"),
    [
        (CHART, PLUGIN, ["nvidia-device-plugin-sidecar", "nvidia-device-plugin-ctr"]),
        (CHART, FEATURES, ["gpu-feature-discovery-sidecar", "gpu-feature-discovery-ctr"]),
        (CHART, MPS, ["mps-control-daemon-sidecar", "mps-control-daemon-ctr"]),
        (GPU_OPERATOR, PLUGIN, ["nvidia-device-plugin", "config-manager"]),
        (GPU_OPERATOR, FEATURES, ["gpu-feature-discovery", "config-manager"]),
        (GPU_OPERATOR, MPS, ["mps-control-daemon-ctr", "config-manager"]),
    ],
)
def test_order_and_names_of_containers(release: Release, part: str, names: list[str]) -> None:
    assert [one["name"] for one in pod_of(part, release)["containers"]] == names


@pytest.mark.parametrize("release", RELEASES, ids=["chart", "GPU Operator"])
@pytest.mark.parametrize(
    ("part", "target"), [(PLUGIN, "nvidia-device-plugin"), (FEATURES, "gpu-feature-discovery"), (MPS, PATH)]
)
def test_whom_a_config_manager_signals(release: Release, part: str, target: str) -> None:
    (manager,) = (one for one in pod_of(part, release)["containers"] if one["command"] == ["config-manager"])
    assert env(manager)["PROCESS_TO_SIGNAL"] == target


def test_without_a_label_the_gpu_operator_falls_back_to_nothing() -> None:
    for part in (PLUGIN, FEATURES, MPS):
        pod = pod_of(part, GPU_OPERATOR)
        managers = [one for one in pod["initContainers"] + pod["containers"] if one["command"] == ["config-manager"]]
        assert len(managers) == 2
        assert all(env(one)["DEFAULT_CONFIG"] == "" for one in managers)
        assert all(env(one)["FALLBACK_STRATEGIES"] == "empty" for one in managers)
        assert managers[1]["securityContext"] == {"privileged": True}


def test_the_plugin_is_told_no_node_and_asks_nobody() -> None:
    plugin = main_of(pod_of(PLUGIN, CHART))
    assert not {"NODE_NAME", "NAMESPACE"} & env(plugin).keys()
    assert plugin["securityContext"] == {"capabilities": {"add": ["SYS_ADMIN"]}}
    assert {"name": "cdi-root", "mountPath": "/var/run/cdi"} in plugin["volumeMounts"]


def test_feature_discovery_is_privileged_and_knows_its_pod() -> None:
    features = main_of(pod_of(FEATURES, CHART))
    assert features["securityContext"] == {"privileged": True}
    assert {"NODE_NAME", "NAMESPACE", "POD_NAME"} <= env(features).keys()


def test_the_stack_s_account_may_only_read_nodes() -> None:
    (role,) = (
        one
        for one in objects()
        if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "nvidia-device-plugin-role"
    )
    (nodes,) = (rule for rule in role["rules"] if rule["resources"] == ["nodes"])
    assert set(nodes["verbs"]) == {"get", "list", "watch"}


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (CHART_OLD, {"panics"}),
        (CHART_BEFORE, {"panics"}),
        (Release((0, 18, 2)), {"panics", "forgetful"}),
        (CHART, {"forgetful", "packs"}),
        (Release((0, 20, 1)), {"packs"}),
    ],
    ids=["0.17", "0.18.1", "0.18.2", "0.20.0", "0.20.1"],
)
def test_what_versions_do(release: Release, expected: set[str]) -> None:
    assert {one for one in BEHAVIOURS if does(one, release.version)} == expected
    assert {env(one)["STANDIN_VERSION"] for one in pod_of(MPS, release)["containers"]} == {
        ".".join(map(str, release.version))
    }


def test_the_suite_s_own_release_works() -> None:
    assert not does("forgetful", SOUND.version)
    assert SOUND.signals == main_of(pod_of(MPS, SOUND))["command"][0]
