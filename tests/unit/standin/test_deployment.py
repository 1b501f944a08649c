"""The manifests, as a test gets them."""

from typing import Any

import pytest

from tests.standin.command import MODULES
from tests.standin.deployment import CONFIGS, NAMESPACE, objects
from tests.standin.settings import Hardware


def daemon_sets(made: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in made if one["kind"] == "DaemonSet"}


def test_namespace_comes_first_and_holds_all_that_is_namespaced() -> None:
    made = objects()
    assert (made[0]["kind"], made[0]["metadata"]["name"]) == ("Namespace", NAMESPACE)
    assert {one["metadata"].get("namespace", NAMESPACE) for one in made} == {NAMESPACE}


def test_three_daemons_each_with_its_own_config_manager() -> None:
    pods = daemon_sets(objects(image="an:image"))
    assert set(pods) == {
        "nvidia-device-plugin",
        "nvidia-device-plugin-gpu-feature-discovery",
        "nvidia-device-plugin-mps-control-daemon",
    }
    for pod in pods.values():
        assert pod["shareProcessNamespace"]
        sidecar, daemon = pod["containers"]
        assert sidecar["command"] == ["config-manager"]
        env = {variable["name"]: variable.get("value") for variable in sidecar["env"]}
        assert [env["PROCESS_TO_SIGNAL"]] == daemon["command"]
        assert {one["image"] for one in pod["initContainers"] + pod["containers"]} == {"an:image"}
        assert daemon["command"][0] in MODULES


def test_without_config_manager_nothing_of_it_is_left() -> None:
    made = objects(config_manager=False)
    assert CONFIGS not in {one["metadata"]["name"] for one in made}
    for pod in daemon_sets(made).values():
        assert len(pod["containers"]) == 1
        assert "config-manager" not in str(pod)
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod.get("volumes", [])}
        assert "available-configs" not in mounted


@pytest.mark.parametrize("hardware", [Hardware(count=4, product="NVIDIA L4"), Hardware(count=1)])
def test_hardware_reaches_the_daemons_and_restarts_them(hardware: Hardware) -> None:
    made = objects(hardware=hardware)
    (settings,) = (one["data"] for one in made if one["metadata"]["name"] == "standin-hardware")
    assert Hardware.from_env(settings) == hardware
    (annotations,) = {
        str(one["spec"]["template"]["metadata"]["annotations"]) for one in made if one["kind"] == "DaemonSet"
    }
    assert hardware.product in annotations
