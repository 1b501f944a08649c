"""What a release is: three artefacts of a registry, and the files of which one of them is made. A new one is a row here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Artefact:
    """Something that a registry holds under the version as its tag."""

    name: str
    repository: str
    """Below the registry that is released to."""
    attested: bool = False
    """Whether provenance and SBOM are attested of it, beside its signature."""


IMAGE = Artefact("image", "slm-operator", attested=True)
CHART = Artefact("chart", "charts/slm-operator")
FILES = Artefact("files", "slm-operator-files")
ARTEFACTS = (FILES, IMAGE, CHART)
"""In the order of their tags: the chart, which people install, last."""

INSTALL, IMAGES, PACKAGES, EXAMPLE = "install.yaml", "images.txt", "requirements.txt", "chat.yaml"
KREW, KREW_ARCHIVE = "slm.yaml", "kubectl-slm.tar.gz"
CHART_KEY = "chart-key.asc"
SBOM, PROVENANCE, SUMS, SIGNATURE = "sbom.cdx.json", "provenance.intoto.json", "SHA256SUMS", "SHA256SUMS.bundle"

FILE_TYPES = {
    ".whl": "application/zip",
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".prov": "text/plain",
    ".asc": "application/pgp-keys",
    ".yaml": "application/yaml",
    ".txt": "text/plain",
    ".json": "application/json",
    ".bundle": "application/json",
    "": "text/plain",
}
"""Media type by a file's suffix."""
