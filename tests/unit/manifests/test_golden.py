"""Every object that the operator makes, pinned. A diff here restarts engines at an upgrade: regenerate only on purpose."""

from pathlib import Path

import pytest
import yaml

from . import cases

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests"


@pytest.mark.parametrize("name", cases.golden())
def test_manifest_is_as_recorded(name: str) -> None:
    recorded = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()))
    assert cases.golden()[name] == recorded, (
        "run `make generate` and review the diff: engines restart where a pod changes"
    )


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(cases.golden())
