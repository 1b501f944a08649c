"""config-manager's choices, and the whole of its trouble with a key that is gone."""

import pytest

from tests.standin.config_manager import ConfigManagerError, find_process, select
from tests.unit.standin.machine import CONFIGS, LABEL, Machine


@pytest.mark.parametrize(
    ("label", "available", "default", "fallbacks", "expected"),
    [
        pytest.param("a", ["a", "b"], "b", [], "a", id="the-label-wins"),
        pytest.param("", ["a", "b"], "b", [], "b", id="default"),
        pytest.param("", ["a", "default"], "", ["named", "single"], "default", id="fallback-to-the-name-default"),
        pytest.param("", ["a"], "", ["named", "single"], "a", id="fallback-to-the-only-one"),
        pytest.param("", ["a", "b"], "", ["single", "empty"], "", id="fallback-to-none"),
    ],
)
def test_chosen_key(label: str, available: list[str], default: str, fallbacks: list[str], expected: str) -> None:
    assert select(label, available, default, fallbacks) == expected


@pytest.mark.parametrize(
    ("label", "available", "default", "fallbacks", "reason"),
    [
        ("c", ["a", "b"], "a", [], "specified config c does not exist"),
        ("", ["a"], "c", [], "specified config  does not exist"),  # upstream names the label's value, not the default
        ("", [], "", ["single"], "no configuration files available"),
        (
            "",
            ["a", "b"],
            "",
            ["named", "single"],
            "no config was set, no default was provided, and all fallbacks failed",
        ),
        ("", ["a"], "", ["random"], "unknown fallback strategy: random"),
    ],
)
def test_no_key(label: str, available: list[str], default: str, fallbacks: list[str], reason: str) -> None:
    with pytest.raises(ConfigManagerError) as refused:
        select(label, available, default, fallbacks)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    "words",
    [
        ["nvidia-device-plugin"],
        ["/usr/bin/nvidia-device-plugin", "--flag"],
        ["/usr/bin/python3", "/usr/local/bin/nvidia-device-plugin"],
    ],
)
def test_process_is_found_among_others(words: list[str]) -> None:
    others = {
        1: ["/pause"],
        7: ["/usr/bin/python3", "/usr/local/bin/config-manager"],
        8: [""],
        9: ["grep", "nvidia-device-plugin"],
    }
    assert find_process("nvidia-device-plugin", others | {12: words}) == 12


def test_key_in_use_deleted_hurts_only_when_the_sidecar_restarts(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({"nvidia.com/gpu.shared": 32})
    machine.project({key: text for key, text in CONFIGS.items() if key != "ts4"})
    assert machine.sidecar.is_alive()
    assert machine.config_manager().exit_error() == "specified config ts4 does not exist"
    # Another label does not help the sidecar: the dangling link is in its way.
    machine.node.label({LABEL: "ts2"})
    assert "error creating symlink" in str(machine.config_manager().exit_error())
