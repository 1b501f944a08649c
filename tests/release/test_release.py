"""`make release` into an empty registry, broken off, gone on with, again; and what it left there is verified.

First part of a recorded run (`make record shipping`): registry, oras and cosign are built for it, cosign alone in ten minutes
when cold. test_walkthrough.py and test_without_clone.py go on with what was released, on a kind node.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from hack.release.artefacts import ARTEFACTS, CHART, CHART_KEY, IMAGE
from tests.testbed.gotools import binary

from .loopback import PASSWORD, USER, registry
from .place import VERSION, quiet, run

if TYPE_CHECKING:
    from pathlib import Path

    from .place import Place

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(5400)]


def test_release_from_an_empty_registry_and_again(place: Place) -> None:
    refused = place.make()
    assert refused.returncode == 2
    assert f"no entry below a heading `## {VERSION}`" in refused.stderr

    place.enter(VERSION)
    assert "the tree has changes that no commit has (M CHANGELOG.md)" in place.make().stderr
    place.commit("Enter the version")

    place.wire.cut_at = place.wire.sent + (20 << 20)
    broken = place.make()
    assert broken.returncode
    assert "Run the same command again" in broken.stderr
    place.wire.cut_at, before = None, place.wire.sent
    assert place.tags() == {}, "half a release has no tag"

    whole = place.make()
    assert whole.returncode == 0
    assert "dist/release is of this commit already" in whole.stderr
    released = place.tags()
    assert released.keys() == {one.name for one in ARTEFACTS}
    size = sum(path.stat().st_size for path in (place.clone / "dist/release/oci/blobs/sha256").iterdir())
    assert place.wire.sent - before < size, "what had arrived was not sent again"

    again = place.make()
    assert again.returncode == 0
    assert "the registry has all of it already" in again.stderr
    assert place.tags() == released


def test_a_tag_of_other_bytes_and_missing_credentials_stop_it(place: Place, tmp_path: Path) -> None:
    kept = place.tags()
    saved = shutil.copytree(place.clone / "dist", tmp_path / "dist")
    readme = place.clone / "README.md"
    readme.write_text(readme.read_text() + "\n")
    place.commit("Change a byte")
    other = place.make()
    assert other.returncode == 2
    assert f"the registry has {VERSION} already" in other.stderr
    assert "building" not in other.stderr
    assert place.tags() == kept

    with registry(tmp_path / "closed", asks=True) as port:
        closed = {"REGISTRY": f"localhost:{port}/slm"}
        asked = place.make(**closed)
        assert asked.returncode
        assert f"docker login localhost:{port}, or REGISTRY_USER and REGISTRY_PASSWORD" in asked.stderr
        entered = place.make(**closed, REGISTRY_USER=USER, REGISTRY_PASSWORD=PASSWORD)
        assert entered.returncode == 0
    shutil.rmtree(place.clone / "dist")
    shutil.copytree(saved, place.clone / "dist")


def test_what_was_released_is_verified_without_the_clone(place: Place, tmp_path: Path) -> None:
    digests, keys = place.tags(), place.keys
    files = tmp_path / "files"
    run(
        str(binary("oras")),
        "pull",
        "--plain-http",
        "--output",
        str(files),
        f"{place.registry}/slm-operator-files:{VERSION}",
    )
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=files)
    by = ("--key", str(keys / "cosign.pub"), "--insecure-ignore-tlog")
    cosign = str(binary("cosign"))
    run(cosign, "verify-blob", *by, "--bundle", str(files / "SHA256SUMS.bundle"), str(files / "SHA256SUMS"))
    for one in ARTEFACTS:
        run(cosign, "verify", *by, "--allow-http-registry", f"{place.registry}/{one.repository}@{digests[one.name]}")
    image = f"{place.registry}/{IMAGE.repository}@{digests[IMAGE.name]}"
    for kind in ("cyclonedx", "slsaprovenance1"):
        run(cosign, "verify-attestation", *by, "--allow-http-registry", "--type", kind, image)
    index = json.loads(run(str(binary("oras")), "manifest", "fetch", "--plain-http", image))
    assert [one["platform"] for one in index["manifests"]] == [{"os": "linux", "architecture": "amd64"}]
    told = json.loads((files / "provenance.intoto.json").read_text())
    subjects = {one["name"]: one["digest"]["sha256"] for one in told["subject"]}
    assert subjects[CHART.repository] == digests[CHART.name].removeprefix("sha256:")
    assert image in (files / "images.txt").read_text()
    (chart,), ring = files.glob("*.tgz"), tmp_path / "pubring.gpg"
    key = (files / CHART_KEY).read_bytes()
    ring.write_bytes(subprocess.run(["gpg", "--dearmor"], input=key, capture_output=True, check=True).stdout)
    verify = (str(binary("helm")), "verify", "--keyring", str(ring), str(chart))
    annotations = yaml.safe_load(run(str(binary("helm")), "show", "chart", str(chart)))["annotations"]
    assert yaml.safe_load(annotations["artifacthub.io/signKey"])["fingerprint"] in run(*verify)
    chart.write_bytes(chart.read_bytes() + b"\0")
    assert quiet(*verify).returncode == 1
