"""Metrics pages of the real vLLM, for tests that read them: under load, later, and after it was started again.

    python -m tests.vllm.pages

Writes tests/data/vllm/metrics.json.gz, some two minutes later. Whole pages, as the engine gave them: nothing is picked.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed.component import answers_ok, wait_until
from tests.testbed.engine_cpu import CPU_ENV, serve_command
from tests.testbed.ports import free_ports
from tests.testbed.tiny_model import tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = Path(__file__).parents[1] / "data/vllm/metrics.json.gz"
LIMITS = ("--enforce-eager", "--max-model-len", "512", "--dtype", "bfloat16", "--max-num-seqs", "8")
MEMORY = ("--kv-cache-memory-bytes", "64M", "--gpu-memory-utilization", "0.1")


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """Its URL, once it answers."""
    (port,) = free_ports(1)
    command = [
        *serve_command(),
        str(tiny_model()),
        *LIMITS,
        *MEMORY,
        "--port",
        str(port),
        "--served-model-name",
        "chat",
    ]
    with subprocess.Popen(command, env=os.environ | CPU_ENV) as running:
        try:
            wait_until(lambda: running.poll() is not None or answers_ok(f"http://127.0.0.1:{port}/health"), "vLLM", 300)
            if running.poll() is not None:
                raise RuntimeError("vLLM ended before it answered; its log is above")
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def asked(url: str, requests: int) -> str:
    """Its page after so many more requests of 16 tokens."""

    def ask(_: int) -> None:
        body = json.dumps({"model": "chat", "prompt": "x" * 32, "max_tokens": 16, "ignore_eos": True}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"}), timeout=120
        ) as answer:
            json.load(answer)

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(requests)))
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        page: str = answer.read().decode()
        return page


def main() -> None:
    """All three."""
    with engine() as url:
        pages = {"first": asked(url, 60), "later": asked(url, 60)}
    with engine() as url:
        pages["restarted"] = asked(url, 80)
    PAGES.write_bytes(gzip.compress(json.dumps(pages).encode(), mtime=0))
    print(f"{PAGES}: {', '.join(f'{name} {len(page) >> 10} KiB' for name, page in pages.items())}")


if __name__ == "__main__":
    main()
