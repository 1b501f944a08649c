"""Whether an MPS daemon hears of the configuration that a node's label chooses, read from pods as NVIDIA's charts make them."""

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.partitioning.config_manager import (
    MOST_WORD,
    ConfigManager,
    against_mps,
    config_manager_in,
    fault_among,
    fault_of,
)

from tests.standin.deployment import pod_of
from tests.standin.releases import (
    CHART,
    CHART_CORRECTED,
    GPU_OPERATOR,
    GPU_OPERATOR_BEFORE,
    GPU_OPERATOR_CORRECTED,
    PATH,
    SOUND,
    Release,
)

MPS, PLUGIN = "mps-control-daemon", "device-plugin"


def manager(release: Release, part: str = MPS) -> ConfigManager:
    found = config_manager_in(pod_of(part, release)["containers"])
    assert found is not None
    return found


def test_what_a_pod_says_of_its_config_manager() -> None:
    chart, operator = manager(CHART), manager(GPU_OPERATOR)
    assert chart == ConfigManager(version=(0, 20, 0), signals=PATH, daemon=MPS, daemon_first=False)
    assert operator == replace(chart, daemon_first=True)
    assert manager(CHART) is chart


@pytest.mark.parametrize(
    ("release", "loads"),
    [
        pytest.param(CHART, "loads the right configuration by chance", id="A: the chart"),
        pytest.param(GPU_OPERATOR, "loads the default configuration", id="B: the GPU Operator"),
        pytest.param(Release((0, 18, 2), PATH), "by chance", id="the first release"),
        pytest.param(CHART_CORRECTED, None, id="C: signal corrected"),
        pytest.param(GPU_OPERATOR_CORRECTED, None, id="signal corrected, GPU Operator"),
        pytest.param(GPU_OPERATOR_BEFORE, None, id="E: 0.18.1"),
        pytest.param(Release((0, 18, 1), PATH), None, id="0.18.1, the chart"),
        pytest.param(Release((0, 21, 0), PATH), None, id="a later release"),
    ],
)
def test_mps_by_label_holds_or_not(release: Release, loads: str | None) -> None:
    fault = fault_of(manager(release))
    assert (fault is None) is (loads is None)
    assert fault is None or (loads or "") in fault.because


def test_a_fault_names_both_processes_and_each_chart_s_remedy() -> None:
    chart, operator = fault_of(manager(CHART)), fault_of(manager(GPU_OPERATOR))
    assert str(chart) == (
        "the MPS control daemon's config-manager 0.20.0 signals /usr/bin/mps-control-daemon, and the daemon runs as "
        "mps-control-daemon, so it loads the right configuration by chance and never hears of another: set PROCESS_TO_SIGNAL of "
        "its config-manager to mps-control-daemon with a post-renderer of NVIDIA's chart; or run the device plugin 0.18.1 or older"
    )
    assert operator is not None
    assert operator.remedy.startswith(
        "run the device plugin 0.18.1 or older (devicePlugin.version in the ClusterPolicy)"
    )


ENV = {"name": "PROCESS_TO_SIGNAL", "value": PATH}


@pytest.mark.parametrize(
    ("changed", "lost"),
    [
        ({}, f"signals {PATH}, and the daemon runs as {MPS}"),
        ({"env": [ENV, {"name": "SEND_SIGNAL", "value": "False"}]}, "sends no signal"),
        ({"env": [{"name": "PROCESS_TO_SIGNAL", "value": ""}]}, "sends no signal"),
        ({"env": [{"name": "PROCESS_TO_SIGNAL"}]}, "sends no signal"),
        ({"env": [], "name": "config-manager"}, f"signals nvidia-device-plugin, and the daemon runs as {MPS}"),
        ({"env": [{"name": "PROCESS_TO_SIGNAL", "value": MPS}]}, None),
    ],
    ids=["another path", "switched off", "empty", "no value", "not set", "the daemon"],
)
def test_what_becomes_of_the_signal(changed: dict[str, Any], lost: str | None) -> None:
    beside = {"name": "mps-control-daemon-sidecar", "image": CHART.image, "env": [ENV]} | changed
    found = config_manager_in([beside, {"name": "mps-control-daemon-ctr", "command": [MPS]}])
    assert found is not None
    assert found.lost_signal == lost
    assert (fault_of(found) is None) is (lost is None)


@pytest.mark.parametrize("command", [None, [], ["/bin/bash", "-c", "exec mps-control-daemon"]])
def test_a_daemon_whose_name_is_not_said_is_not_judged(command: list[str] | None) -> None:
    daemon = {"name": "mps-control-daemon-ctr"} | ({} if command is None else {"command": command})
    found = config_manager_in([{"name": "config-manager", "image": CHART.image, "env": [ENV]}, daemon])
    assert found is not None
    assert fault_of(found) is None


def test_words_of_a_pod_are_bounded() -> None:
    long = [{"name": "PROCESS_TO_SIGNAL", "value": "x" * 10_000}]
    found = config_manager_in([{"env": long}, {"name": "mps-control-daemon-ctr", "command": ["y" * 10_000]}])
    assert found is not None
    assert len(found.signals or "") == len(found.daemon or "") == MOST_WORD


@pytest.mark.parametrize(
    "containers",
    [[], [{}], [{"name": "mps-control-daemon-ctr"}], [{"name": "config-manager"}]],
    ids=["no container", "nothing in it", "alone", "nobody beside it"],
)
def test_without_a_neighbour_there_is_no_config_manager(containers: list[dict[str, Any]]) -> None:
    assert config_manager_in(containers) is None


@pytest.mark.parametrize(
    ("release", "restarts"),
    [
        (CHART, False),
        (CHART_CORRECTED, True),
        (GPU_OPERATOR_BEFORE, False),
        (SOUND, False),
        (Release((0, 21, 0)), True),
    ],
    ids=["no signal arrives", "both signals arrive", "neither", "it waits for the label", "a later release"],
)
def test_its_restart_is_the_daemon_s_where_signals_arrive(release: Release, *, restarts: bool) -> None:
    assert manager(release).restarts_daemon is restarts


def test_one_daemon_that_hears_shows_that_all_will() -> None:
    broken, sound = manager(CHART), manager(CHART_CORRECTED)
    assert fault_among([broken, broken]) == fault_of(broken)
    assert fault_among([broken, sound]) is None
    assert fault_among([broken, None]) is None
    assert fault_among([]) is None


@pytest.mark.parametrize(
    ("seen", "against"),
    [
        pytest.param([(PLUGIN, CHART), (MPS, CHART)], "signals /usr/bin/mps-control-daemon", id="it is seen to fail"),
        pytest.param([(PLUGIN, CHART)], "the device plugin 0.20.0", id="no daemon yet: by the plugin's release"),
        pytest.param([(PLUGIN, SOUND), (PLUGIN, CHART)], "the device plugin 0.20.0", id="one of two plugins"),
        pytest.param([(PLUGIN, CHART), (MPS, CHART_CORRECTED)], None, id="it is seen to hold"),
        pytest.param([(PLUGIN, GPU_OPERATOR_BEFORE), (MPS, GPU_OPERATOR_BEFORE)], None, id="an older release"),
        pytest.param([], None, id="nothing is seen"),
    ],
)
def test_auto_takes_no_mps_where_it_would_not_hold(seen: list[tuple[str, Release]], against: str | None) -> None:
    found = against_mps((part, manager(release, part)) for part, release in seen)
    assert (found is None) is (against is None)
    assert found is None or (against or "") in found


def test_plugins_of_unknown_release_are_not_held_against_mps() -> None:
    assert against_mps([(PLUGIN, ConfigManager()), (PLUGIN, None)]) is None
