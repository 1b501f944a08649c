"""Which key config-manager chooses."""

import pytest

from tests.standin.config_manager import ConfigManagerError, select


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
