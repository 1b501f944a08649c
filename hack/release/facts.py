"""What is asked of the tree and of the registry before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from benchmarks.records import RUNS, staleness
from hack import krew
from hack.release import changelog
from hack.release.artefacts import CHART
from hack.release.build import Commit
from hack.release.preconditions import Facts
from hack.release.tools import ROOT, run

if TYPE_CHECKING:
    from hack.release.parameters import Parameters
    from hack.release.registry import Registry


def gather(parameters: Parameters, registry: Registry) -> Facts:
    """All of them."""
    version = krew.version()
    chart = yaml.safe_load((ROOT / "charts" / "slm-operator" / "Chart.yaml").read_text())
    crds = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    return Facts(
        version=version,
        chart_version=chart["version"],
        app_version=chart["appVersion"],
        crds_release=tuple(crd["metadata"]["annotations"]["slm-operator.io/release"] for crd in crds),
        git_tag=parameters.git_tag,
        dirty=tuple(run(["git", "status", "--porcelain"]).splitlines()),
        changes=changelog.section((ROOT / "CHANGELOG.md").read_text(), version),
        stale={name: why for name in RUNS if (why := staleness(name)) is not None},
        published=registry.tags(CHART),
        base=parameters.base,
    )


def commit(facts: Facts) -> Commit:
    """The commit that is here, of which these facts are."""
    sha, epoch = run(["git", "log", "-1", "--format=%H %ct"]).split()
    assert facts.changes is not None, "a precondition"
    return Commit(version=facts.version, sha=sha, epoch=epoch, changes=facts.changes, stale=facts.stale)
