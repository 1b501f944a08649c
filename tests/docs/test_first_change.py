"""The change that CONTRIBUTING.md shows step by step can be made as it stands there."""

import re
import subprocess

from tests.docs.pages import ROOT


def test_every_diff_of_the_first_change_applies() -> None:
    diffs = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(diffs) == 2
    for diff in diffs:
        applied = subprocess.run(
            ["git", "apply", "--check"], cwd=ROOT, input=diff, capture_output=True, text=True, check=False
        )
        assert applied.returncode == 0, applied.stderr
