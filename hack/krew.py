"""The krew plugin `slm`: dist/kubectl-slm.tar.gz and the manifest dist/slm.yaml that names it by checksum.

    python hack/krew.py --releases https://example.org/releases        (`make krew RELEASES=...`)
    kubectl krew install --manifest=dist/slm.yaml --archive=dist/kubectl-slm.tar.gz

krew wants one file to run on each platform, and the command line is Python with a compiled dependency. So the file is a
script that lets uv fetch the wheel of this very version once and run it; uv must be installed. Reproducible: the same
version gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import tarfile
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = tuple({"os": system, "arch": arch} for system in ("linux", "darwin") for arch in ("amd64", "arm64"))
SCRIPT = """#!/bin/sh
command -v uv > /dev/null || { echo "kubectl slm needs uv: https://docs.astral.sh/uv" >&2; exit 1; }
exec uv tool run --quiet --from '%s' kubectl-slm "$@"
"""


def version() -> str:
    """The project's version, from its one place."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def archive(releases: str) -> bytes:
    """The plugin's archive: the script and the licence."""
    wheel = f"{releases}/v{version()}/slm_operator-{version()}-py3-none-any.whl"
    files = {"kubectl-slm": (SCRIPT % wheel).encode(), "LICENSE": (ROOT / "LICENSE").read_bytes()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name == "kubectl-slm" else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def manifest(releases: str) -> str:
    """Krew's manifest of the plugin."""
    found = {
        "uri": f"{releases}/v{version()}/kubectl-slm.tar.gz",
        "sha256": hashlib.sha256(archive(releases)).hexdigest(),
        "bin": "kubectl-slm",
        "files": [{"from": "kubectl-slm", "to": "."}, {"from": "LICENSE", "to": "."}],
    }
    body = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "slm"},
        "spec": {
            "version": f"v{version()}",
            "homepage": releases,
            "shortDescription": "Small language models on shared GPUs",
            "description": "Advice with its evidence, plans before they are applied, live views and preflight checks\n"
            "for models that slm-operator serves from shared GPUs. Needs uv.\n",
            "platforms": [{"selector": {"matchLabels": platform}} | found for platform in PLATFORMS],
        },
    }
    return yaml.safe_dump(body, sort_keys=False, width=110)


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", required=True, help="URL below which v<version>/ holds wheel and archive")
    releases = parser.parse_args().releases.rstrip("/")
    folder = ROOT / "dist"
    folder.mkdir(exist_ok=True)
    (folder / "kubectl-slm.tar.gz").write_bytes(archive(releases))
    (folder / "slm.yaml").write_text(manifest(releases))
    print(f"dist/kubectl-slm.tar.gz and dist/slm.yaml, version {version()}")


if __name__ == "__main__":
    main()
