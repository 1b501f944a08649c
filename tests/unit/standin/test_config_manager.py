"""Which key config-manager chooses, and whom it finds to signal."""

from pathlib import Path

import pytest

from tests.standin.config_manager import ConfigManagerError, find_process, processes, select
from tests.standin.releases import CHART, CHART_BEFORE, PATH


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
def test_config_manager_selects_key(
    label: str, available: list[str], default: str, fallbacks: list[str], expected: str
) -> None:
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
def test_config_manager_ends_without_a_key(
    label: str, available: list[str], default: str, fallbacks: list[str], reason: str
) -> None:
    with pytest.raises(ConfigManagerError) as refused:
        select(label, available, default, fallbacks)
    assert str(refused.value) == reason


NODE = ((1, ["systemd"]), (7, ["config-manager"]), (9, ["mps-control-daemon"]), (11, ["mps-control-daemon"]))


def test_a_process_is_found_by_the_whole_first_word() -> None:
    assert find_process("mps-control-daemon", NODE, CHART.version) == 9
    with pytest.raises(ConfigManagerError, match="error finding pid: no process found"):
        find_process(PATH, NODE, CHART.version)


def test_a_process_without_a_command_line_ends_older_versions() -> None:
    node = ((2, []), *NODE)
    assert find_process("mps-control-daemon", node, CHART.version) == 9
    with pytest.raises(ConfigManagerError, match=r"index out of range \[0\] with length 0"):
        find_process("mps-control-daemon", node, CHART_BEFORE.version)


def test_a_process_that_ends_while_it_is_read_ends_the_search(tmp_path: Path) -> None:
    for pid in (10, 9, 2):
        (tmp_path / str(pid)).mkdir()
    (tmp_path / "2" / "cmdline").write_text("")
    (tmp_path / "9" / "cmdline").write_text("mps-control-daemon\0--flag\0")
    assert find_process("mps-control-daemon", processes(tmp_path), CHART.version) == 9  # before the one that has ended
    with pytest.raises(ConfigManagerError, match="error getting cmdline"):
        find_process("another", processes(tmp_path), CHART.version)
