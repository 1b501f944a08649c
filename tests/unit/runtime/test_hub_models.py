"""A model that is given by its name on the hub, on real processes: nothing of it is known before an engine runs."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slm_core import tuning
from slm_core.codec import parse_document
from slm_core.failure import Failure
from slm_core.search.steps import Findings
from slm_runtime import cli
from slm_runtime import profile as profiling
from slm_runtime.ledger import read_config
from slm_runtime.profile import Ending
from slm_runtime.task import request_on

NAME = "org/long-context"
LONG = 131_072


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub with one model of a long context, 512 MiB of KV cache for one sequence, and an empty cache."""
    config = {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 512,
        "max_position_embeddings": LONG,
    }  # fmt: skip
    folder = tmp_path / "hub" / NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("LIGHT_ENGINE_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("slm_runtime.download.EVERY_SECONDS", 0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_packs_of_a_hub_model_hold_one_of_its_longest_sequences(profile: Callable[..., Any]) -> None:
    assert not read_config(NAME), "it is in no folder that the profiler could read"
    run = profile(
        "--model", NAME, "--engines-per-gpu", "2", "--max-batch-size", "8", download_seconds=1, start_seconds=0.2
    )
    assert run.status == 0, run.events[-1]
    document = parse_document(run.one("result")["document"])
    assert document.complete, document.incomplete_because
    assert not [note for note in run.all("note") if note["message"].startswith("failed")]
    assert document.model.max_model_len == LONG
    packs = [p for p in document.points if p.replicas == 2]
    assert packs
    assert all(p.kv_pool_bytes is not None and p.kv_pool_bytes >= LONG * 4096 for p in packs)
    assert document.cost is not None
    assert 0 < document.cost.download_seconds < document.cost.startup_seconds < document.cost.gpu_seconds


async def test_the_budget_ends_as_much_later_as_a_download_took() -> None:
    asked: list[float] = []

    def download_seconds() -> float:
        asked.append(0.05)
        return asked[-1]

    async def search() -> Findings:
        await asyncio.Event().wait()
        raise AssertionError

    rig: Any = SimpleNamespace(download_seconds=download_seconds)
    ending, searching = Ending(), asyncio.create_task(search())
    with profiling._interruptible(searching, 0.01, rig, ending):
        await asyncio.wait([searching], timeout=60)
    assert searching.cancelled()
    assert len(asked) >= 2, "the first end was put off"
    assert ending.failure is Failure.BUDGET


GIB = 2**30
TOKENS = {
    "T4, 16 GB": (15 * GIB, 2048),
    "L4, 24 GB": (int(22.5 * GIB), 2048),
    "A10G, 24 GB": (24 * GIB, 2048),
    "A100, 40 GB": (int(39.6 * GIB), 8192),
    "L40S, 48 GB": (int(44.7 * GIB), 8192),
    "H100, 80 GB": (80 * GIB, 8192),
    "no device": (None, 8192),
}


@pytest.mark.parametrize("case", TOKENS)
def test_the_step_budget_follows_the_memory_of_the_device(case: str) -> None:
    memory, tokens = TOKENS[case]
    assert tuning.max_num_batched_tokens(memory) == tokens


@pytest.mark.parametrize(
    ("words", "tokens"),
    [([], 2048), (["--max-num-batched-tokens", "4096"], 4096), (["--max-batch-size", "3000"], 3000)],
    ids=["the device's", "the user's own", "never below the batch"],
)
def test_the_step_budget_of_a_small_card_is_asked_for(words: list[str], tokens: int) -> None:
    task = cli._task(cli._parser().parse_args(["profile", "--model", NAME, *words]), ("vllm", "serve"), "a test")
    small: Any = SimpleNamespace(memory_bytes=24 * GIB)
    assert request_on(task, small, lambda _: None).max_num_batched_tokens == tokens
