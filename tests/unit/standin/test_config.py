"""The configuration file: what NVIDIA's plugin takes, and what it refuses."""

import pytest

from tests.standin.config import ConfigError, PluginConfig, Sharing, parse
from tests.standin.releases import CHART, CHART_BEFORE

RESOURCES = "resources: [{name: nvidia.com/gpu, replicas: 4}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", PluginConfig(), id="empty"),
        pytest.param("version: v1\nflags: {unknown: none}", PluginConfig(), id="no-sharing"),
        pytest.param(
            f"sharing: {{timeSlicing: {{{RESOURCES}}}}}",
            PluginConfig(Sharing("time-slicing", 4, renamed=False, fail_requests_greater_than_one=False)),
            id="time-slicing-neither-renames-nor-refuses-unless-configured",
        ),
        pytest.param(
            f"sharing: {{timeSlicing: {{renameByDefault: true, failRequestsGreaterThanOne: true, {RESOURCES}}}}}",
            PluginConfig(Sharing("time-slicing", 4, renamed=True, fail_requests_greater_than_one=True)),
            id="time-slicing-renamed",
        ),
        pytest.param(
            f"sharing: {{mps: {{failRequestsGreaterThanOne: false, {RESOURCES}}}}}",
            PluginConfig(Sharing("mps", 4, renamed=False, fail_requests_greater_than_one=True)),
            id="mps-refuses-requests-above-one-whatever-is-configured",
        ),
        pytest.param(
            "flags: {plugin: {sharedDevicesAllocationPolicy: packed}}", PluginConfig(policy="packed"), id="packed"
        ),
    ],
)
def test_plugin_configuration_is_accepted(text: str, expected: PluginConfig) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version: v2", "unknown version: v2"),
        ("sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}", "number of replicas must be >= 2"),
        ("sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: many}]}}", "replicas is not an integer: 'many'"),
        ("sharing: {mps: {resources: [{name: nvidia.com/gpu}]}}", "no replicas specified"),
        ("sharing: {mps: {resources: [{replicas: 2}]}}", "no resource name specified"),
        ("sharing: {timeSlicing: {renameByDefault: true}}", "no resources specified"),
        (
            f"sharing: {{mps: {{{RESOURCES}}}, timeSlicing: {{{RESOURCES}}}}}",
            "sharing.timeSlicing and sharing.mps exclude",
        ),
        ("sharing: [", "unmarshal error"),
        ("just text", "configuration is not a mapping"),
        (
            "flags: {plugin: {sharedDevicesAllocationPolicy: spread}}",
            "invalid --shared-devices-allocation-policy option: spread",
        ),
    ],
)
def test_plugin_configuration_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert reason in str(refused.value)


KEPT = """
flags:
  nvidiaDriverRoot: /run/nvidia/driver
  plugin: {deviceListStrategy: [volume-mounts, cdi-cri], deviceIDStrategy: index, passDeviceSpecs: true}
"""


def test_flags_of_the_file_are_played() -> None:
    found = parse(KEPT)
    assert found.driver_root == "/run/nvidia/driver"
    assert found.list_strategies == ("volume-mounts", "cdi-cri")
    assert (found.id_strategy, found.pass_device_specs) == ("index", True)


def test_the_environment_wins_over_the_file() -> None:
    found = parse(KEPT, env={"DEVICE_LIST_STRATEGY": "envvar", "DEVICE_ID_STRATEGY": "uuid", "MPS_ROOT": "/mps"})
    assert (found.list_strategies, found.id_strategy, found.mps_root) == (("envvar",), "uuid", "/mps")
    assert found.driver_root == "/run/nvidia/driver"


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("deviceListStrategy: [mounts]", "invalid --device-list-strategy option"),
        ("deviceIDStrategy: name", "invalid --device-id-strategy option: name"),
    ],
)
def test_a_strategy_that_is_not_known_is_refused(flag: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse(f"flags: {{plugin: {{{flag}}}}}")


def test_versions_before_0_20_do_not_pack() -> None:
    asked = "flags: {plugin: {sharedDevicesAllocationPolicy: packed}}"
    assert [parse(asked, version=one.version).policy for one in (CHART_BEFORE, CHART)] == ["distributed", "packed"]
