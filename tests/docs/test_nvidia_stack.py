"""The page on NVIDIA's stack has every case that was run with NVIDIA's own binaries, on both installers."""

import json
from typing import Any

from benchmarks.measured import RESULTS
from benchmarks.nvidia.results import lines

KEPT: dict[str, Any] = json.loads((RESULTS / "nvidia.json").read_text())
AS_RELEASED = {"1", "2", "6", "7", "8", "9", "10", "N4"}
WHERE_MPS_HOLDS = {"2", "3", "4", "4'", "4''", "5", "10"}


def test_every_case_was_played_on_every_release() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for one in KEPT["rows"]:
        found.setdefault((one["installer"], one["release"]), set()).add(one["case"])
    assert found == {
        (installer, release): cases
        for installer in ("chart", "gpu-operator")
        for release, cases in {
            "0.20.0": AS_RELEASED,
            "0.20.0, signal corrected": WHERE_MPS_HOLDS,
            "0.18.1": WHERE_MPS_HOLDS,
        }.items()
    }


def test_a_case_that_went_wrong_is_shown_as_wrong() -> None:
    row = {
        "case": "1",
        "what": "a",
        "expected": "b",
        "happened": "c | d",
        "right": False,
        "said": "no",
        "check": ["problem"],
    }
    said = lines({"rows": [row | {"installer": "chart", "release": "0.20.0"}]})
    assert said[0] == "### 0.20.0, NVIDIA's chart"
    assert "| 1: a | b | c \\| d | **wrong** |" in said
    assert said[-2:] == ["- 1, status: no", "- 1, `check`: problem"]
