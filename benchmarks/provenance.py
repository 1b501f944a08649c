"""Where and when a run was made: what every figure that is kept has beside it."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def environment() -> dict[str, Any]:
    """Where and when a run took place. What runs themselves have kept does not make a commit another one."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benchmarks/results")
    commit = _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    return {
        "commit": commit,
        "date": time.strftime("%Y-%m-%d %H:%MZ", time.gmtime()),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": round(os.getloadavg()[0], 1),
    }


def provenance(command: str, about: Mapping[str, Any]) -> str:
    """When, where and by what a run was made, as one sentence. `about` is its `environment`."""
    machine = f"{about['cores']} cores and {about['memory_gib']} GiB (load {about['load_before']} before)"
    return f"Run {about['date']} at commit `{about['commit']}` by `{command}` on a machine with {machine}."


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
