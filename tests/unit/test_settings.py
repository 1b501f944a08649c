"""What the operator refuses to start with, in words that say what to do."""

from pathlib import Path

import pytest
from slm_operator.api import names
from slm_operator.settings import Profiles, SettingsError, read_settings

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
def test_invalid_label_name_is_refused_with_a_valid_one(tmp_path: Path, label: str) -> None:
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


def profiles_of(folder: Path, text: str) -> Profiles:
    """The part `profiles`, as it is read from a file."""
    file = folder / "config.yaml"
    file.write_text(f"profiles: {text}\n")
    return read_settings(file).profiles


def test_no_library_and_no_end_of_a_profile_by_default(tmp_path: Path) -> None:
    assert profiles_of(tmp_path, "{}") == Profiles(library_namespaces=(), retention_days=None)


def test_libraries_keep_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    found = profiles_of(tmp_path, "{libraryNamespaces: [b, a-1], retentionDays: 0.5}")
    assert found == Profiles(library_namespaces=("b", "a-1"), retention_days=0.5)


NO_PROFILES = {
    "capitals": ("{libraryNamespaces: [Team]}", r"libraryNamespaces\.0: 'Team' is no name of a namespace: give one"),
    "a dot": ("{libraryNamespaces: [a.b]}", "is no name of a namespace"),
    "nothing": ("{libraryNamespaces: ['']}", "is no name of a namespace"),
    "too long": (f"{{libraryNamespaces: [{'a' * 64}]}}", "is no name of a namespace"),
    "twice": ("{libraryNamespaces: [a, b, a]}", "libraryNamespaces: a stands there twice: name each namespace once"),
    "too many": (f"{{libraryNamespaces: {[f'a{i}' for i in range(17)]}}}", "at most 16 items"),
    "no day": ("{retentionDays: 0}", "retentionDays: Input should be greater than 0"),
    "over ten years": ("{retentionDays: 3651}", "retentionDays: Input should be less than or equal to 3650"),
}


@pytest.mark.parametrize("name", NO_PROFILES)
def test_profiles_that_cannot_be_so_are_refused_by_key(tmp_path: Path, name: str) -> None:
    text, words = NO_PROFILES[name]
    with pytest.raises(SettingsError, match=words):
        profiles_of(tmp_path, text)


def test_files_of_a_folder_are_read_by_name_and_the_last_wins(tmp_path: Path) -> None:
    for name, text in {
        "config.yaml": "nodes: {maxChanging: 1, convergenceSeconds: 60}\nnamespaces: [a, b]\nprofiles: {retentionDays: 7}",
        "own.yaml": "nodes: {maxChanging: 3}\nnamespaces: [c]\nprofiles: {retentionDays: null}",
        "empty.yaml": "# nothing",
        "read.me": "- no settings",
    }.items():
        (tmp_path / name).write_text(text)
    found = read_settings(tmp_path)
    assert (found.nodes.max_changing, found.nodes.convergence_seconds) == (3, 60)
    assert (found.namespaces, found.profiles.retention_days) == (("c",), None)


def test_file_of_a_folder_that_holds_no_settings_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "own.yaml").write_text("- a")
    with pytest.raises(SettingsError, match=r"own\.yaml is not a mapping of settings"):
        read_settings(tmp_path)
    (tmp_path / "own.yaml").write_text("a: [")
    with pytest.raises(SettingsError, match=r"own\.yaml: "):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("engineImage: A B", "engineImage: an image is registry/name:tag"),
        ("tolerations: [{operater: Exists}]", "tolerations.0.operater: Extra inputs"),
        ("tolerations: [{key: slm-operator.io/changing, operator: Exists}]", "while its GPUs are repartitioned"),
        ("hubEndpoint: hub.example", "hubEndpoint"),
        ("proxy: {htp: x}", "proxy.htp"),
        ("proxy: {https: 'http://user:hush@proxy:3128'}", "proxy.https"),
    ],
)
def test_a_default_that_no_pod_could_have_is_refused(tmp_path: Path, text: str, because: str) -> None:
    (tmp_path / "config.yaml").write_text(f"defaults: {{{text}}}\n")
    with pytest.raises(SettingsError) as why:
        read_settings(tmp_path / "config.yaml")
    assert because in str(why.value)


PRICES = {
    "nothing": ("NVIDIA-L4: 0", "greater than 0"),
    "less than nothing": ("NVIDIA-L4: -1", "greater than 0"),
    "no number": ("NVIDIA-L4: .nan", "finite number"),
    "too much": ("NVIDIA-L4: 1e9", "less than or equal to 1000000"),
}


@pytest.mark.parametrize("price", PRICES)
def test_a_price_that_is_none_is_refused_by_product(tmp_path: Path, price: str) -> None:
    given, because = PRICES[price]
    (tmp_path / "config.yaml").write_text(f"prices: {{perGpuHour: {{{given}}}}}\n")
    with pytest.raises(SettingsError, match=rf"prices\.perGpuHour\.NVIDIA-L4: Input should be .*{because}: correct it"):
        read_settings(tmp_path / "config.yaml")


def test_prices_are_of_one_currency(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("prices: {currency: EUR, perGpuHour: {NVIDIA-L4: 0.6}}\n")
    prices = read_settings(tmp_path / "config.yaml").prices
    assert (prices.currency, prices.per_gpu_hour) == ("EUR", {"NVIDIA-L4": 0.6})
    (tmp_path / "config.yaml").write_text("prices: {currency: euro}\n")
    with pytest.raises(SettingsError, match=r"prices\.currency"):
        read_settings(tmp_path / "config.yaml")


def test_a_folder_without_settings_is_not_taken_for_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("nodes: {maxChanging: 3}")
    with pytest.raises(SettingsError, match=r"no settings: no file there ends in \.yaml: give a folder with one"):
        read_settings(tmp_path)
