"""dist/sbom.cdx.json: every package of the operator's image as CycloneDX, from the lock, with licences.

    python -m hack.sbom           (`make sbom` calls it)

The lock is what the image is built from, hashes included. uv writes the document; licences are added from the installed
packages' own metadata, because the lock has none. (cyclonedx-py reads an environment, which knows no hashes.)
"""

from __future__ import annotations

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "dist" / "sbom.cdx.json"
EXPORT = ("export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5", "--preview-features", "sbom-export")


def document(uv: str) -> dict[str, Any]:
    """The document, with the licences that are known."""
    exported = subprocess.run([uv, *EXPORT], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made: dict[str, Any] = json.loads(exported)
    for component in made["components"]:
        _add_licence(component)
    return made


def main() -> None:
    """Write it, and say what is in it."""
    made = document(os.environ.get("UV", "uv"))
    unknown = [component["name"] for component in made["components"] if "licenses" not in component]
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{TARGET.relative_to(ROOT)}: {len(made['components'])} packages", end="")
    print(f", no licence given by {', '.join(unknown)}" if unknown else ", all with a licence")


def _add_licence(component: dict[str, Any]) -> None:
    """Add the licence to a component, if there is one to be found."""
    try:
        package = metadata.metadata(component["name"])
    except metadata.PackageNotFoundError:  # for another platform or Python
        return
    classified = [
        line.rpartition(" :: ")[2] for line in package.get_all("Classifier", []) if line.startswith("License ::")
    ]
    named = (
        package.get("License-Expression") or ", ".join(classified) or (package.get("License") or "").partition("\n")[0]
    )
    if named:
        component["licenses"] = [{"license": {"name": named}}]


if __name__ == "__main__":
    main()
