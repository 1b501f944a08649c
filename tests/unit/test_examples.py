"""Every example is what the API takes, can be planned, and names what it serves so that it stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from slm_core.codec import to_json
from slm_operator.cli.main import main

from tests.builders.documents import SWEEP_AND_PACKS, published

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
COMMIT_DIGITS = 40


def objects(example: Path, kind: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(example.read_text()) if one["kind"] == kind]


DEPLOYMENTS = [
    pytest.param(one, id=f"{example.stem}-{one['metadata']['name']}")
    for example in EXAMPLES
    for one in objects(example, "SLMDeployment")
]
PROFILES = [one for example in EXAMPLES for one in objects(example, "SLMProfile")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_says_in_its_first_line_what_it_shows(example: Path) -> None:
    assert example.read_text().startswith("# ")


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_example_is_planned_from_measurements(deployment: dict[str, Any], tmp_path: Path) -> None:
    manifest, measured = tmp_path / "slmd.yaml", tmp_path / "measured.json"
    manifest.write_text(yaml.safe_dump(deployment))
    measured.write_text(json.dumps(to_json(published("opt-1.3b", *SWEEP_AND_PACKS))))
    assert main(["plan", "-f", str(manifest), "--profile", str(measured)]) == 0


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_example_from_the_hub_names_a_commit(deployment: dict[str, Any]) -> None:
    model = deployment["spec"]["model"]
    measured_elsewhere = deployment["spec"].get("profiling", {}).get("policy") == "Never"
    if model["uri"].startswith("hf://") and not measured_elsewhere:
        assert len(model["revision"]) == COMMIT_DIGITS


@pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one["metadata"]["name"])
def test_imported_profile_is_what_was_published(profile: dict[str, Any]) -> None:
    measured = to_json(published("opt-1.3b", *SWEEP_AND_PACKS, ledger=False))
    assert profile["spec"]["measurements"]["points"] == measured["points"]
