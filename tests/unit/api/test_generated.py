"""What is generated is up to date, and what it is generated from says what every field means."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slm_operator.api.crd import KINDS, Kind, definition

ROOT = Path(__file__).parents[3]


def test_generated_files_are_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hack.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def undocumented(schema: dict[str, Any], at: str) -> list[str]:
    found = [] if at.count(".") == 0 or "description" in schema else [at]
    for name, part in schema.get("properties", {}).items():
        found += undocumented(part, f"{at}.{name}")
    if "properties" in schema.get("items", {}):
        found += undocumented(schema["items"], f"{at}[]")
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_documented(kind: Kind) -> None:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["metadata"]
    assert undocumented(schema, kind.kind) == []
