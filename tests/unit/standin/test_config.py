"""The configuration file: what NVIDIA's plugin takes, and what it refuses."""

import pytest

from tests.standin.config import ConfigError, PluginConfig, Sharing, parse

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
