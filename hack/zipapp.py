"""Builds slm_runtime.pyz: the profiler and pynvml in one file that any engine image's Python runs.

    python hack/zipapp.py dist/slm_runtime.pyz

Reproducible: files in order, without times, owners or bytecode, so the same sources give the same bytes.
"""

import argparse
import importlib.util
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT / "core" / "slm_core", ROOT / "runtime" / "slm_runtime")
MAIN = "import sys\nfrom slm_runtime.entry import main\nsys.exit(main())\n"


def build(target: Path) -> Path:
    """Write the zipapp and give its path."""
    sources = {str(file.relative_to(room.parent)): file for room in PACKAGES for file in sorted(room.rglob("*.py"))}
    sources["pynvml.py"] = _pynvml()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in sources.items():
                _add(archive, name, file.read_bytes())
            _add(archive, "__main__.py", MAIN.encode())
    target.chmod(0o755)
    return target


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _pynvml() -> Path:
    found = importlib.util.find_spec("pynvml")
    if found is None or found.origin is None:
        raise SystemExit("pynvml is not installed: run `make env`")
    return Path(found.origin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "dist" / "slm_runtime.pyz")
    print(build(parser.parse_args().target))
