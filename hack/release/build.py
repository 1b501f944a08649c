"""What is released of a commit, in dist/release: built once, then the same bytes however often it is pushed.

oci/ what the registry gets     files/ what people download     attested/ what is attested of the image
notes.md the version's changes  built.json written last: of which commit and parameters all this is
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hack.release import changelog, charts, files, images, keys
from hack.release.artefacts import ARTEFACTS, CHART, CHART_KEY, FILES, IMAGE, SBOM, SIGNATURE, SUMS
from hack.release.oci import Layout
from hack.release.parameters import KEYLESS
from hack.release.provenance import predicate, statement
from hack.release.tools import ROOT, run
from tests.testbed.gotools import binary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hack.release.parameters import Parameters

FOLDER = ROOT / "dist" / "release"
SEAL = "built.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What is built from."""

    version: str
    sha: str
    epoch: str
    """Its time, in seconds; what is built has this time, so that it is built the same again."""
    changes: str
    stale: Mapping[str, str]


def kept(parameters: Parameters, commit: Commit) -> dict[str, str] | None:
    """Digest by artefact's name of what was built of this commit by these parameters, if it is still there."""
    sealed = FOLDER / SEAL
    if not sealed.exists() or (found := json.loads(sealed.read_text()))["of"] != _of(parameters, commit):
        return None
    digests: dict[str, str] = found["digests"]
    return digests


def build(parameters: Parameters, commit: Commit, uv: str, say: Callable[[str], None]) -> dict[str, str]:
    """Digest by artefact's name, of what is built anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    digests = _built(parameters, commit, uv, say)
    (FOLDER / "notes.md").write_text(commit.changes + "\n")
    (FOLDER / SEAL).write_text(json.dumps({"of": _of(parameters, commit), "digests": digests}, indent=1) + "\n")
    return digests


def _of(parameters: Parameters, commit: Commit) -> dict[str, Any]:
    """All that changes a byte of it."""
    by = {name: getattr(parameters, name) for name in ("registry", "releases", "base", "sign_key", "chart_key")}
    return by | {
        "platforms": list(parameters.platforms),
        "build_options": list(parameters.build_options),
        "version": commit.version,
        "commit": commit.sha,
        "stale": dict(commit.stale),
    }


def _built(parameters: Parameters, commit: Commit, uv: str, say: Callable[[str], None]) -> dict[str, str]:
    layout, folder, key = Layout(FOLDER / "oci"), FOLDER / "files", keys.public(parameters)
    say(f"building the image for {', '.join(parameters.platforms)}")
    image = images.image(layout, parameters, commit.version, commit.sha)
    say("packing the chart")
    with tempfile.TemporaryDirectory() as work:
        changes = changelog.changes(commit.changes)
        chart = charts.prepared(Path(work), parameters, image["digest"], changes, key.fingerprint)
        packed = charts.packed(chart, Path(work), parameters)
        charted = charts.pushed(layout, packed)
        say("writing the files")
        files.write(folder, chart, parameters.releases, uv, commit.epoch)
        for path in (packed.archive, packed.provenance):
            shutil.copy(path, folder)
        (folder / CHART_KEY).write_text(key.armored)
    oci = {one.repository: one_made["digest"] for one, one_made in ((IMAGE, image), (CHART, charted))}
    _attest(parameters, commit, folder, oci)
    _sign_sums(parameters, folder)
    made = {IMAGE.name: image, CHART.name: charted, FILES.name: files.pushed(layout, folder, commit.version)}
    layout.name(made)
    return {one.name: made[one.name]["digest"] for one in ARTEFACTS}


def _attest(parameters: Parameters, commit: Commit, folder: Path, oci: Mapping[str, str]) -> None:
    """The provenance of all files and of what the registry gets; and what cosign attests of the image."""
    lock = hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest()
    how = predicate(parameters, commit.version, commit.sha, lock, commit.stale)
    subjects = {name: digest.removeprefix("sha256:") for name, digest in oci.items()}
    files.sum_up(folder, statement(subjects | files.digests(folder), how))
    attested = FOLDER / "attested"
    attested.mkdir()
    shutil.copy(folder / SBOM, attested)
    (attested / "predicate.json").write_text(json.dumps(how) + "\n")


def _sign_sums(parameters: Parameters, folder: Path) -> None:
    by = () if parameters.sign_key == KEYLESS else ("--key", parameters.sign_key, "--tlog-upload=false")
    bundle = ("--bundle", str(folder / SIGNATURE))
    run([str(binary("cosign")), "sign-blob", "--yes", *by, *bundle, str(folder / SUMS)])
