"""What the operator refuses to start with, in words that say what to do."""

from pathlib import Path

import pytest
from slm_operator.api import names
from slm_operator.settings import SettingsError, read_settings

RESTRICTED = "node-restriction.kubernetes.io/slm"


def opted_in_by(folder: Path, label: str, *, plugin: str = "nvidia.com/device-plugin.config") -> str:
    """The opt-in label as it is read from a file."""
    file = folder / "config.yaml"
    file.write_text(f"nodes: {{optInLabel: {label!r}}}\ndevicePlugin: {{configLabel: {plugin!r}}}\n")
    return read_settings(file).nodes.opt_in_label


@pytest.mark.parametrize("label", [names.OPT_IN_LABEL, RESTRICTED, "lent", "example.com/Lent_to.slm-1"])
def test_a_label_of_the_administrators_is_taken(tmp_path: Path, label: str) -> None:
    assert opted_in_by(tmp_path, label) == label


@pytest.mark.parametrize(
    "label", ["", "/slm", "a/b/c", "Example.com/slm", "-slm", "slm=true", "a" * 64, "a/" + "b" * 64]
)
def test_what_is_no_name_of_a_label_is_refused_with_one(tmp_path: Path, label: str) -> None:
    with pytest.raises(SettingsError, match=r"nodes\.optInLabel: .* is no name of a label: give one like node-restr"):
        opted_in_by(tmp_path, label)


@pytest.mark.parametrize(
    "text", ["a: [", "a: 2026-99-99", "[" * 5000, "a: " + "9" * 5000, "a: !!timestamp x", "\0", "- a", "7"]
)
def test_a_file_that_holds_no_settings_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SettingsError) as why:
        read_settings(tmp_path / "config.yaml")
    assert "\n" not in str(why.value)


@pytest.mark.parametrize("label", [names.CLASS_LABEL, names.SERVES_LABEL, "nvidia.com/gpu.product", "mine/config"])
def test_a_label_that_nodes_get_by_themselves_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(SettingsError, match=r"nodes\.optInLabel: .* opt in by itself: give a label of your own"):
        opted_in_by(tmp_path, label, plugin="mine/config")
