"""The real vLLM on CPU, as a locked Python environment in the cache.

Exists because an image of the engine is 6 GB and cannot be pulled everywhere, while the packages can be installed and
the folder mounted. Assumes CPython 3.11, the one of Debian 12, whose containers use the packages through PYTHONPATH.
Must never change an environment that is ready: engines may be running from it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).with_name("engine_cpu")
COMMAND = Path(__file__).parents[2] / "images/engine-cpu/vllm"
START_HOOK = "sitecustomize.py"
SITE_PACKAGES = Path("lib/python3.11/site-packages")
CPU_ENV = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_COLOR": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What every engine of the test bed is started with, besides its own environment."""


def cache() -> Path:
    """The folder for everything that is slow to make: $SLM_CACHE, or the user's."""
    return Path(os.environ.get("SLM_CACHE") or Path.home() / ".cache/slm-operator")


def environment() -> Path:
    """The environment of the folder `engine_cpu`, installed on first use (6 GB, a few minutes; under a second after that).

    Contains `bin/python` and `lib/python3.11/site-packages`. Raises subprocess.CalledProcessError with uv's own words
    above it when the packages cannot be had.
    """
    content = b"".join((PROJECT / name).read_bytes() for name in ("uv.lock", START_HOOK))
    folder = cache() / "engine-cpu" / hashlib.sha256(content).hexdigest()[:12]
    ready = folder.with_suffix(".ready")
    if not ready.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not ready.exists():
                _install(folder)
                ready.touch()
    return folder


def python() -> Path:
    """The environment's interpreter."""
    return environment() / "bin/python"


def serve_command() -> list[str]:
    """`vllm serve` of the environment, as the image for it has it."""
    return [str(python()), str(COMMAND), "serve"]


def _install(folder: Path) -> None:
    # Bytecode now: the folder is mounted read-only, where every start would compile ten thousand files again.
    subprocess.run(
        [
            str(uv()),
            "sync",
            "--frozen",
            "--quiet",
            "--compile-bytecode",
            "--python",
            "3.11",
            "--project",
            str(PROJECT),
        ],
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder), "UV_HTTP_TIMEOUT": "300"},
        check=True,
    )
    shutil.copy(PROJECT / START_HOOK, folder / SITE_PACKAGES)


def uv() -> Path:
    """The package manager that `make env` has put into the cache."""
    command = cache() / "uv/bin/uv"
    if not command.exists():
        raise FileNotFoundError(f"{command} is missing: run `make env` once")
    return command


if __name__ == "__main__":
    sys.stdout.write(f"{environment()}\n")
