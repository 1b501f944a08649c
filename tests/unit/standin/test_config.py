"""The configuration file: what NVIDIA's plugin takes, and what it refuses."""

import pytest

from tests.standin.config import ConfigError, PluginConfig, Sharing, check_flags, parse

RESOURCES = "resources: [{name: nvidia.com/gpu, replicas: 4}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", PluginConfig(), id="empty"),
        pytest.param("version: v1\nflags: {migStrategy: none}", PluginConfig(), id="no-sharing"),
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
            "sharing: {mps: {resources: [{name: gpu, replicas: 2, devices: [0], rename: mine}]}}",
            PluginConfig(Sharing("mps", 2, renamed=False, fail_requests_greater_than_one=True)),
            id="devices-and-rename-mean-nothing",
        ),
        pytest.param(
            "sharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.10gb, replicas: 2}]}}",
            PluginConfig(),
            id="sharing-of-another-resource",
        ),
        pytest.param(
            "flags: {plugin: {sharedDevicesAllocationPolicy: packed}}", PluginConfig(policy="packed"), id="packed"
        ),
        pytest.param("surprise: 1", PluginConfig(), id="unknown-keys-are-ignored"),
    ],
)
def test_accepted(text: str, expected: PluginConfig) -> None:
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
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "mps_root", "mig_strategy", "reason"),
    [
        ("", None, None, "using MPS requires --mps-root to be specified"),
        ("", "/mps", "mixed", "using --mig-strategy=mixed is not supported with MPS"),
        ("migStrategy: mixed", "/mps", None, "using --mig-strategy=mixed is not supported with MPS"),
        ("migStrategy: half", "/mps", None, "unknown MIG strategy: half"),
    ],
)
def test_flags_refused_under_mps(flags: str, mps_root: str | None, mig_strategy: str | None, reason: str) -> None:
    config = parse(
        f"flags: {{{flags}}}\nsharing: {{mps: {{{RESOURCES}}}}}", mps_root=mps_root, mig_strategy=mig_strategy
    )
    with pytest.raises(ConfigError) as refused:
        check_flags(config)
    assert str(refused.value) == reason


@pytest.mark.parametrize("text", ["flags: {mpsRoot: /run/nvidia/mps}", "flags: {migStrategy: mixed}"])
def test_flags_accepted(text: str) -> None:
    check_flags(parse(text))


def test_command_line_wins_over_the_file() -> None:
    config = parse("flags: {mpsRoot: /of-the-file, migStrategy: mixed}", mps_root="/given", mig_strategy="single")
    assert (config.mps_root, config.mig_strategy) == ("/given", "single")
