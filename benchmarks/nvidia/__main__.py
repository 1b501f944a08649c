"""Plays the cases on each installer and release, prints the rows, and $SLM_RECORD is the file for them.

    python -m benchmarks.nvidia [--installer chart] [--release 0.20.0] [--case time_slicing]

Both installers are played at once, each by a process with a control plane of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.nvidia import cases
from benchmarks.nvidia.bed import bed
from tests.standin.releases import (
    CHART,
    CHART_BEFORE,
    CHART_CORRECTED,
    GPU_OPERATOR,
    GPU_OPERATOR_BEFORE,
    GPU_OPERATOR_CORRECTED,
    Installer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.nvidia.bed import Bed
    from tests.standin.releases import Release

RELEASES: dict[str, tuple[tuple[Release, Release], tuple[Callable[[Bed], Iterator[cases.Row]], ...]]] = {
    "0.20.0": ((CHART, GPU_OPERATOR), cases.AS_RELEASED),
    "0.20.0, signal corrected": ((CHART_CORRECTED, GPU_OPERATOR_CORRECTED), cases.WHERE_MPS_HOLDS),
    "0.18.1": ((CHART_BEFORE, GPU_OPERATOR_BEFORE), cases.WHERE_MPS_HOLDS),
}


def play(installer: str, named: str | None, case: str | None) -> list[dict[str, Any]]:
    """Every row of an installer that is asked for."""
    rows = []
    for name, (releases, played) in RELEASES.items():
        if named not in {None, name}:
            continue
        (release,) = (one for one in releases if one.installer == installer)
        began = time.monotonic()
        with bed(release, cases.CONFIGS) as made:
            for one in played:
                if case not in {None, one.__name__}:
                    continue
                for row in one(made):
                    row.installer, row.release = release.installer, name
                    rows.append(row.raw())
                    print(
                        f"{installer}, {name}, {row.case}: {'right' if row.right else 'WRONG'}: {row.happened}",
                        flush=True,
                    )
        print(f"{installer}, {name}: {time.monotonic() - began:.0f} s", flush=True)
    return rows


def play_both() -> list[dict[str, Any]]:
    """All rows, by a process for each installer. Raises CalledProcessError when one fails."""
    with tempfile.TemporaryDirectory() as folder:
        files = {one: Path(folder) / one for one in Installer}
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.nvidia", f"--installer={installer}"],
                env=os.environ | {"SLM_RECORD": str(file)},
            )
            for installer, file in files.items()
        ]
        for one in running:
            if status := one.wait():
                raise subprocess.CalledProcessError(status, one.args)
        return [row for file in files.values() for row in json.loads(file.read_text())["rows"]]


def main() -> None:
    """Play, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nvidia", description=__doc__)
    parser.add_argument("--installer", choices=list(Installer), help="one installer; both when none is named")
    parser.add_argument("--release", choices=RELEASES, help="one release of an installer; all when none is named")
    parser.add_argument("--case", help="one function of cases.py")
    asked = parser.parse_args()
    rows = play(asked.installer, asked.release, asked.case) if asked.installer else play_both()
    order = list(RELEASES)
    rows.sort(key=lambda one: (order.index(one["release"]), one["installer"]))
    if kept := os.environ.get("SLM_RECORD"):
        Path(kept).write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
