"""The operator's image for each platform, by docker, and the index of all of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hack.release.tools import ROOT, run

if TYPE_CHECKING:
    from hack.release.oci import Descriptor, Layout
    from hack.release.parameters import Parameters


def image(layout: Layout, parameters: Parameters, version: str, commit: str) -> Descriptor:
    """Build, keep in the layout, and give the index."""
    labels = {"org.opencontainers.image.version": version, "org.opencontainers.image.revision": commit}
    each = [_of(layout, parameters, platform, labels) for platform in parameters.platforms]
    return layout.index(each, labels | {"org.opencontainers.image.title": "slm-operator"})


def _of(layout: Layout, parameters: Parameters, platform: str, labels: dict[str, str]) -> Descriptor:
    name = f"slm-operator-release:{platform.replace('/', '-')}"
    labelled = [word for label, value in labels.items() for word in ("--label", f"{label}={value}")]
    command = ["docker", "build", "--platform", platform, "--build-arg", f"PYTHON={parameters.base}", *labelled]
    command += [*parameters.build_options, "--file", "images/operator/Dockerfile", "--tag", name, "."]
    run(command, cwd=ROOT)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "image.tar"
        run(["docker", "save", "--output", str(saved), name])
        return layout.image(saved, platform)
