"""Components of kustomize, built by kubectl: what they make of config/default is what the chart renders with the same values."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from slm_operator.settings import Settings, merged

from hack import kustomize_components as components
from hack import plain_manifests
from tests.chart.helm import CHART, ROOT
from tests.testbed.gotools import binary

if TYPE_CHECKING:
    from pathlib import Path

    Object = dict[str, Any]

pytestmark = pytest.mark.slow

HASHED = re.compile(r"^(slm-operator-config)-[a-z0-9]{10}$")


def built(folder: Path, kustomization: Object, **files: str) -> dict[tuple[str, ...], Object]:
    """Objects by kind, namespace and name, with the name of the settings' ConfigMap as it is without its hash."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (folder / "config").symlink_to(ROOT / "config")
    command = [binary("kubectl"), "kustomize", "--load-restrictor=LoadRestrictionsNone", folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return by_name(_unhashed(one) for one in yaml.safe_load_all(made.stdout))


def by_name(objects: Any) -> dict[tuple[str, ...], Object]:
    return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in objects}


def _unhashed(value: Any) -> Any:
    match value:
        case dict():
            return {name: _unhashed(one) for name, one in value.items()}
        case list():
            return [_unhashed(one) for one in value]
        case str():
            return HASHED.sub(r"\1", value)
        case _:
            return value


SETTINGS = ("ConfigMap", "slm-system", "slm-operator-config")


def settings_in(objects: dict[tuple[str, ...], Object]) -> Settings:
    """Taken out of the objects, and read as the operator does."""
    return Settings.model_validate(merged(objects.pop(SETTINGS)["data"]))


def rendered(values: Object) -> dict[tuple[str, ...], Object]:
    return by_name(plain_manifests.objects(CHART, *components.flags(values)))


OWN_SETTINGS = {"name": "slm-operator-config", "namespace": "slm-system", "behavior": "merge", "files": ["own.yaml"]}


def with_component(name: str) -> Object:
    """What whoever uses a component writes."""
    own: Object = {"resources": ["config/default"], "components": [f"config/components/{name}"]}
    if name == "namespaces-only":
        own |= {"resources": ["config/default", "team-a"], "configMapGenerator": [OWN_SETTINGS]}
    return own


@pytest.mark.parametrize("name", components.VALUES)
def test_a_component_makes_what_the_chart_renders(name: str, tmp_path: Path) -> None:
    (tmp_path / "team-a").mkdir()
    (tmp_path / "team-a" / "kustomization.yaml").write_text(
        "namespace: team-a\nresources: [../config/served-namespace]\n"
    )
    found = built(tmp_path, with_component(name), own="namespaces: [team-a]\n")
    wanted = rendered(components.VALUES[name])
    assert settings_in(found) == settings_in(wanted)
    assert found == wanted


def test_components_combine(tmp_path: Path) -> None:
    both = ("gpu-operator", "monitoring")
    kustomization = {"resources": ["config/default"], "components": [f"config/components/{name}" for name in both]}
    found, wanted = built(tmp_path, kustomization), rendered(components.VALUES[both[0]] | components.VALUES[both[1]])
    assert settings_in(found) == settings_in(wanted)
    assert found == wanted


def test_another_setting_is_another_name_and_no_other_right() -> None:
    made = subprocess.run([binary("kubectl"), "kustomize", ROOT / "config/default"], capture_output=True, check=True)
    plain = by_name(yaml.safe_load_all(made.stdout))
    (name,) = [name for kind, _, name in plain if kind == "ConfigMap"]
    assert HASHED.match(name), "by its name Kubernetes restarts the operator"
    rules = plain["Role", "slm-system", "slm-operator"]["rules"]
    assert [rule["resourceNames"] for rule in rules if "resourceNames" in rule] == [["slm-operator"]], (
        "that of the Lease"
    )


def guides(file: str) -> Object:
    """What the guide has in a block that begins with the name of this file."""
    page = (ROOT / "docs/how-to/install.md").read_text()
    (found,) = re.findall(rf"^```yaml\n# {re.escape(file)}.*?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    read: Object = yaml.safe_load(found)
    return read


def test_the_guides_overlay_sets_image_and_settings(tmp_path: Path) -> None:
    found = built(tmp_path, guides("kustomization.yaml"), own=yaml.safe_dump(guides("own.yaml")))
    (operator,) = found["Deployment", "slm-system", "slm-operator"]["spec"]["template"]["spec"]["containers"]
    settings = settings_in(found)
    assert operator["image"] == settings.profiling.image == "REGISTRY/slm-operator:VERSION"
    assert (settings.device_plugin.namespace, settings.nodes.max_changing) == ("gpu-operator", 3)
