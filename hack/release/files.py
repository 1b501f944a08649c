"""The files of a release: made from the tree and from the chart that was prepared, summed up, and signed by their sums."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from hack import krew, plain_manifests, sbom
from hack.release.artefacts import (
    EXAMPLE,
    FILE_TYPES,
    IMAGES,
    INSTALL,
    KREW,
    KREW_ARCHIVE,
    PACKAGES,
    PROVENANCE,
    SBOM,
    SUMS,
)
from hack.release.oci import EMPTY
from hack.release.tools import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hack.release.oci import Descriptor, Layout

ARTIFACT_TYPE = "application/vnd.slm-operator.release.v1"


def write(folder: Path, chart: Path, releases: str, uv: str, epoch: str) -> None:
    """All files but the provenance and the sums, which name the others."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned = ("--build-constraints", "images/operator/build-requirements.txt", "--require-hashes")
    run([uv, "build", "--quiet", "--wheel", *pinned, "--out-dir", str(folder)], SOURCE_DATE_EPOCH=epoch)
    (folder / ".gitignore").unlink(missing_ok=True)  # uv's
    objects = plain_manifests.objects(chart)
    (folder / INSTALL).write_text(yaml.safe_dump_all(objects, sort_keys=False, width=120))
    (folder / KREW_ARCHIVE).write_bytes(krew.archive())
    (folder / KREW).write_text(krew.manifest(releases))
    (folder / SBOM).write_text(json.dumps(sbom.document(uv), indent=1) + "\n")
    (folder / PACKAGES).write_text(
        run([uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header"])
    )
    shutil.copy(ROOT / "examples" / EXAMPLE, folder)
    (folder / IMAGES).write_text("".join(f"{name}\n" for name in images(objects)))


def images(objects: list[dict[str, Any]]) -> list[str]:
    """Every image that a cluster may pull, with its registry: the operator's, and those of its settings, the engines' default among them."""
    return sorted({_with_registry(image) for found in objects for image in _named(found)})


def _with_registry(image: str) -> str:
    """As tools want it that know no registry by default. Source: distribution/reference, normalize.go."""
    registry, slash, _ = image.partition("/")
    if slash and (set(registry) & set(".:") or registry == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def _named(found: dict[str, Any]) -> Iterator[str]:
    if found["kind"] == "Deployment":
        yield from (container["image"] for container in found["spec"]["template"]["spec"]["containers"])
    settings = yaml.safe_load(found["data"].get("config.yaml", "{}")) if found["kind"] == "ConfigMap" else {}
    for part in settings.values():
        for name, value in part.items() if isinstance(part, dict) else ():
            if value and isinstance(value, str) and name.lower().endswith("image"):
                yield value


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each file by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def sum_up(folder: Path, statement: dict[str, Any]) -> None:
    """The provenance, and the sums of all files."""
    (folder / PROVENANCE).write_text(json.dumps(statement, indent=1) + "\n")
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests(folder).items()))


def pushed(layout: Layout, folder: Path, version: str) -> Descriptor:
    """One artefact of all files, each by its name, as `oras pull` writes them."""
    layers = [
        layout.blob(
            path.read_bytes(), FILE_TYPES[path.suffix], annotations={"org.opencontainers.image.title": path.name}
        )
        for path in sorted(folder.iterdir())
    ]
    said = {"org.opencontainers.image.version": version}
    return layout.manifest(layout.blob(b"{}", EMPTY), layers, said, ARTIFACT_TYPE)
