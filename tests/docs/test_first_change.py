"""What CONTRIBUTING.md names in its first change is where it says, whatever checks have come since."""

import re

import pytest

from tests.docs.pages import ROOT

TESTS = "tests/unit/advisor/test_checks.py"
NAMED = [
    ("core/slm_core/measurements.py", "Point", r"^class Point:"),
    ("core/slm_core/measurements.py", "cpu_throttled_fraction", r"^    cpu_throttled_fraction: "),
    ("core/slm_core/candidates.py", "CheckName", r"^class CheckName\("),
    ("core/slm_core/candidates.py", "PRECISION", r"^    PRECISION = "),
    ("core/slm_core/point_checks.py", "SOUND", r"^SOUND = \([^)]*\bprecise\b"),
    ("operator/slm_operator/advisor/checks.py", "further", r"^def further\("),
    ("operator/slm_operator/advisor/checks.py", "of_all", r"\bof_packs=.*\n +of_all="),
    ("core/slm_core/decision.py", "evaluate", r"^def evaluate\("),
    (TESTS, "test_rejects", r"^def test_rejects\("),
    (TESTS, "judged", r"^def judged\("),
    (TESTS, "SINGLE_CHECKS", r"^SINGLE_CHECKS = "),
    (TESTS, "PACK_CHECKS", r"^PACK_CHECKS = "),
    (TESTS, "test_a_confirmation_replaces_the_point_it_confirms", r"^def test_a_confirmation_replaces_the_point_it_confirms\("),
    (TESTS, "test_all_checks_of", r"^def test_all_checks_of(?s:.*)^def test_all_checks_of"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "name", "found"), NAMED, ids=[name for _, name, _ in NAMED])
def test_what_the_first_change_names_is_there(path: str, name: str, found: str) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert path in guide
    assert f"`{name}`" in guide
    assert re.search(found, (ROOT / path).read_text(), re.MULTILINE)
