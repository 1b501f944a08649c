"""The chart as objects."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.testbed.gotools import binary

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "slm-operator"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary("helm"), *arguments], capture_output=True, text=True, check=False, timeout=300)


def rendered(*values: str, namespace: str = "slm-system") -> list[dict[str, Any]]:
    """All objects of the chart under --set values. Raises RuntimeError with what helm said."""
    sets = [part for value in values for part in ("--set", value)]
    done = helm("template", "slm-operator", str(CHART), "--namespace", namespace, *sets)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [found for found in objects if found["kind"] == kind]
