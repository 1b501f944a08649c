"""The krew plugin `slm`: dist/kubectl-slm.tar.gz and the manifest dist/slm.yaml that names it by checksum.

    python -m hack.krew --releases https://example.org/releases        (`make krew RELEASES=...`)
    kubectl krew install --manifest=dist/slm.yaml --archive=dist/kubectl-slm.tar.gz

krew wants one file to run on each platform, and the command line is Python with compiled dependencies. So the archive
holds the command's own sources, uv.lock, and a script by which uv makes an environment beside them, once. All that ever
runs is under the archive's checksum, be it by the hashes of the lock. Reproducible: the same tree gives the same bytes.

NB: `uv tool run` and `uv run --with` read hashes of requirements and check none of them: seen with uv 0.13.8. A lock is
checked.
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
PACKAGES = ("core/slm_core", "operator/slm_operator", "runtime/slm_runtime")
SCRIPT = """#!/bin/sh
command -v uv > /dev/null || { echo "kubectl slm needs uv: https://docs.astral.sh/uv" >&2; exit 1; }
here=$(dirname "$(readlink -f "$0")")
export UV_PROJECT_ENVIRONMENT="$here/.venv"
uv sync --quiet --project "$here" --frozen --no-dev --no-install-project --no-build || exit 1
exec "$here/.venv/bin/python" "$here" "$@"
"""
MAIN = "import sys\n\nfrom slm_operator.cli.main import main\n\nsys.exit(main())\n"


def version() -> str:
    """The project's version, from its one place."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def contents() -> dict[str, bytes]:
    """The archive's files. The sources lie beside __main__.py, so Python finds them there and never in the current folder."""
    metadata = f"Metadata-Version: 2.4\nName: slm-operator\nVersion: {version()}\n"
    made = {
        "kubectl-slm": SCRIPT,
        "__main__.py": MAIN,
        f"slm_operator-{version()}.dist-info/METADATA": metadata,
    }
    taken = {name: (ROOT / name).read_bytes() for name in ("LICENSE", "README.md", "pyproject.toml", "uv.lock")}
    for package in map(ROOT.joinpath, PACKAGES):
        sources = (file for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc")
        taken |= {str(file.relative_to(package.parent)): file.read_bytes() for file in sources}
    return {name: text.encode() for name, text in made.items()} | dict(sorted(taken.items()))


def archive() -> bytes:
    """The plugin's archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in contents().items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name == "kubectl-slm" else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def manifest(releases: str) -> str:
    """Krew's manifest of the plugin."""
    found = {
        "uri": f"{releases}/v{version()}/kubectl-slm.tar.gz",
        "sha256": hashlib.sha256(archive()).hexdigest(),
        "bin": "kubectl-slm",
        "files": [{"from": "*", "to": "."}],
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
    parser.add_argument("--releases", required=True, help="URL below which v<version>/ holds the archive")
    releases = parser.parse_args().releases.rstrip("/")
    folder = ROOT / "dist"
    folder.mkdir(exist_ok=True)
    (folder / "kubectl-slm.tar.gz").write_bytes(archive())
    (folder / "slm.yaml").write_text(manifest(releases))
    print(f"dist/kubectl-slm.tar.gz and dist/slm.yaml, version {version()}")


if __name__ == "__main__":
    main()
