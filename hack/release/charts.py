"""The chart as it is released: its image by digest, what Artifact Hub shows, packed, with its provenance by a PGP key."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hack.chart_values import Image, Values, chart_readme, values_yaml
from hack.release.artefacts import CHART, CHART_KEY, IMAGE
from hack.release.tools import ROOT, run
from tests.testbed.gotools import binary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hack.release.oci import Descriptor, Layout
    from hack.release.parameters import Parameters

CONFIG = "application/vnd.cncf.helm.config.v1+json"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE = "application/vnd.cncf.helm.chart.provenance.v1.prov"


@dataclass(frozen=True, slots=True)
class Packed:
    """A chart of which everything is written."""

    archive: Path
    provenance: Path
    meta: dict[str, Any]


def prepared(
    folder: Path, parameters: Parameters, image_digest: str, changes: Sequence[dict[str, str]], fingerprint: str
) -> Path:
    """A copy of the chart in `folder` that takes this image, and says what this release is."""
    chart = folder / "slm-operator"
    shutil.copytree(ROOT / "charts" / "slm-operator", chart)
    meta = yaml.safe_load((chart / "Chart.yaml").read_text())
    image = Image(registry=parameters.registry, repository=IMAGE.repository, digest=image_digest)
    named = f"{parameters.registry}/{IMAGE.repository}@{image_digest}"
    key_url = f"{parameters.releases}/v{meta['version']}/{CHART_KEY}"
    meta["annotations"] |= {
        "artifacthub.io/images": yaml.safe_dump([{"name": "operator", "image": named}], sort_keys=False),
        "artifacthub.io/changes": yaml.safe_dump(list(changes), sort_keys=False, width=1000),
        "artifacthub.io/prerelease": "false",
        "artifacthub.io/signKey": yaml.safe_dump({"fingerprint": fingerprint, "url": key_url}, width=1000),
    }
    (chart / "Chart.yaml").write_text(yaml.safe_dump(meta, sort_keys=False, width=1000))
    (chart / "values.yaml").write_text(values_yaml(Values(image=image)))
    (chart / "README.md").write_text(chart_readme(meta, parameters.registry))
    return chart


def packed(chart: Path, target: Path, parameters: Parameters) -> Packed:
    """The archive and its provenance, which `helm verify` reads."""
    meta = yaml.safe_load((chart / "Chart.yaml").read_text())
    by = ["--sign", "--key", parameters.chart_key, "--keyring", str(Path(parameters.chart_keyring).resolve())]
    if parameters.chart_passphrase_file:
        by += ["--passphrase-file", str(Path(parameters.chart_passphrase_file).resolve())]
    run([str(binary("helm")), "package", str(chart), "--destination", str(target), *by])
    archive = target / f"{meta['name']}-{meta['version']}.tgz"
    return Packed(archive, archive.with_name(f"{archive.name}.prov"), meta)


def pushed(layout: Layout, chart: Packed) -> Descriptor:
    """The manifest as `helm push` makes it, but with a digest before anything is pushed."""
    meta = chart.meta
    config = layout.blob(json.dumps(meta).encode(), CONFIG)
    layers = [layout.blob(chart.archive.read_bytes(), CONTENT), layout.blob(chart.provenance.read_bytes(), PROVENANCE)]
    said = {"title": meta["name"], "version": meta["version"], "description": meta["description"], "url": meta["home"]}
    return layout.manifest(config, layers, {f"org.opencontainers.image.{name}": text for name, text in said.items()})


def address(parameters: Parameters) -> str:
    """What `helm install` is given."""
    return f"oci://{parameters.registry}/{CHART.repository}"
