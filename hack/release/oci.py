"""An OCI image layout on disk: blobs by digest, and an index that names what was put together of them.

The same blobs and annotations give the same digests; nothing here reads a clock.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"

Descriptor = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout in a folder."""

    folder: Path

    def blob(self, content: bytes, media_type: str, **more: Any) -> Descriptor:
        """Keep bytes, and give their descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / "blobs" / "sha256" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)} | more

    def manifest(
        self,
        config: Descriptor,
        layers: Sequence[Descriptor],
        annotations: Mapping[str, str] | None = None,
        artifact_type: str | None = None,
    ) -> Descriptor:
        """Keep a manifest of these."""
        body: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        body |= {"artifactType": artifact_type} if artifact_type else {}
        body |= {"config": config, "layers": list(layers)}
        body |= {"annotations": dict(annotations)} if annotations else {}
        return self.blob(_json(body), MANIFEST)

    def index(self, manifests: Sequence[Descriptor], annotations: Mapping[str, str]) -> Descriptor:
        """Keep an index of manifests, each with its platform."""
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests), "annotations": dict(annotations)}
        return self.blob(_json(body), INDEX)

    def image(self, saved: Path, platform: str) -> Descriptor:
        """The image of an archive by `docker save`, of either format: layers packed, the configuration as it is."""
        os_name, _, architecture = platform.partition("/")
        with tarfile.open(saved) as archive:
            (listed,) = json.loads(_read(archive, "manifest.json"))
            config = self.blob(_read(archive, listed["Config"]), CONFIG)
            layers = [self.blob(_packed(_read(archive, name)), LAYER) for name in listed["Layers"]]
        return self.manifest(config, layers) | {"platform": {"os": os_name, "architecture": architecture}}

    def name(self, named: Mapping[str, Descriptor]) -> None:
        """Write the layout's index: what can be asked for by name."""
        entries = [one | {"annotations": {"org.opencontainers.image.ref.name": name}} for name, one in named.items()]
        (self.folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        (self.folder / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)  # follows links: a layer that is there twice is one
    assert found is not None, name
    return found.read()


def _packed(layer: bytes) -> bytes:
    """NB: without a time in its head, or each run would give another digest."""
    return gzip.compress(layer, compresslevel=6, mtime=0)


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
