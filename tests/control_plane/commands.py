"""`kubectl slm` as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path


def slm(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command as a person types it."""
    command = [str(Path(sys.executable).with_name("kubectl-slm")), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        timeout=240,
    )


def findings(kubeconfig: Path, *arguments: str) -> dict[str, list[str]]:
    """What `check` says that is not ok, by check."""
    done = slm(kubeconfig, "check", "-o", "json", *arguments)
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1)
    reported: dict[str, list[str]] = {}
    for one in answer["findings"]:
        if one["level"] != "ok":
            reported.setdefault(one["check"], []).append(f"{one['level']}: {one['what']}")
    return reported
