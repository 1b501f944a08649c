"""A vLLM of 30 MB for tests: its command line, API, metrics, life cycle and ways to fail, and no model.

python -m light_engine DIR --port 8000      (with tests/ on PYTHONPATH)
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from .arguments import Settings, Shape, parse, settings
from .server import Server, serve

PARTS = 20
"""In which a model comes from the hub."""


def main(argv: list[str] | None = None, *, as_module: bool = False) -> int:
    """Run the engine, as `vllm serve` or as vLLM's module. Exit status 0 after SIGTERM, 1 when it cannot start, 2 for a flag that vLLM does not have."""
    args = parse(sys.argv[1:] if argv is None else argv, as_module=as_module)
    own = settings()
    _log(f"version {own.version} model {args.model}")
    if own.last_words:
        sys.stdout.write(Path(own.last_words).read_text())
        return 1
    try:
        shape = Shape.of(args.model, args.dtype, own.hub)
        if own.hub:
            _download(args.model, own.download_seconds)
        pool = _kv_pool_bytes(args, own, shape)
        asyncio.run(serve(Server(args, own, shape, pool)))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        _log(f"Traceback (most recent call last):\n{type(error).__name__}: {error}", "ERROR")
        return 1
    return 0


def _download(model: str, seconds: float) -> None:
    """Let the model grow in the cache of the hub's client, as its downloader does; once."""
    whole = Path(os.environ["HF_HUB_CACHE"]) / f"models--{model.replace('/', '--')}" / "blobs" / "weights"
    if whole.exists():
        return
    whole.parent.mkdir(parents=True, exist_ok=True)
    partial = whole.with_suffix(".incomplete")
    with partial.open("wb", buffering=0) as file:
        for _ in range(PARTS):
            file.write(b"x" * 4096)
            time.sleep(seconds / PARTS)
    partial.rename(whole)


def _kv_pool_bytes(args: argparse.Namespace, own: Settings, shape: Shape) -> int:
    """The pool, with vLLM's log lines about memory and its refusal of a pool below one sequence."""
    gib = 2**30
    asked = args.kv_cache_memory_bytes
    requested = own.device_bytes * args.gpu_memory_utilization
    activation = 64 * 2**20
    pool = asked or int(requested - own.weights_bytes - activation)
    longest = args.max_model_len or shape.max_model_len
    needed = longest * shape.kv_bytes_per_token
    if own.fault == "die-at-start":
        raise RuntimeError("CUDA error: out of memory")
    _log(f"Model loading took {own.weights_bytes / gib:.2f} GiB memory and 0.100000 seconds")
    if needed > pool:
        raise ValueError(
            f"To serve at least one request with the model's max seq len ({longest}), ({needed / gib:.2f} GiB KV cache "
            f"is needed, which is larger than the available KV cache memory ({pool / gib:.2f} GiB)."
        )
    if not asked:
        free = own.device_bytes - 256 * 2**20
        consumed = own.weights_bytes + 128 * 2**20
        _log(
            f"Free memory on device ({free / gib:.2f}/{own.device_bytes / gib:.2f} GiB) on startup. Desired GPU memory "
            f"utilization is ({args.gpu_memory_utilization}, {requested / gib:.2f} GiB). Actual usage is "
            f"{consumed / gib:.2f} GiB for consumed memory (weights + non-torch), {activation / gib:.2f} GiB for peak "
            f"activation, and 0.00 GiB for CUDAGraph memory."
        )
    return pool


def _log(text: str, level: str = "INFO") -> None:
    if level == "INFO" and (
        os.environ.get("VLLM_LOGGING_LEVEL", "INFO").upper() not in {"INFO", "DEBUG"}
        or os.environ.get("VLLM_CONFIGURE_LOGGING") == "0"
        or settings().fault == "silent"
    ):
        return
    for line in text.splitlines():
        sys.stdout.write(f"(EngineCore pid=1) {level} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
