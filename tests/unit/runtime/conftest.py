import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slm_runtime import cli

TESTS = Path(__file__).parents[2]
OPT_TINY = {
    "architectures": ["OPTForCausalLM"],
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "vocab_size": 512,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder without weights, which the light engine does not miss."""
    folder = tmp_path / "opt-tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(OPT_TINY))
    return folder


@dataclass(frozen=True, slots=True)
class Run:
    """What one `slm_runtime profile` said."""

    status: int
    events: list[dict[str, Any]]

    def all(self, event: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == event]

    def one(self, event: str) -> dict[str, Any]:
        (found,) = self.all(event)
        return found


@pytest.fixture
def light_command(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("SLM_TEST", str(os.getpid()))  # by which leftovers are known
    monkeypatch.setenv("LIGHT_ENGINE_STEP_MS", "8")
    monkeypatch.setenv("LIGHT_ENGINE_SEQUENCE_MS", "0.1")
    return [sys.executable, "-m", "light_engine"]


@pytest.fixture
def profile(
    model: Path, light_command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Runs the whole command against the light engine: `profile("--max-batch-size", "16", fault="die-at:8")`."""

    def run(*words: str, engine: list[str] | None = None, **settings: object) -> Run:
        for name, value in settings.items():
            monkeypatch.setenv(f"LIGHT_ENGINE_{name.upper()}", str(value))
        given = list(words)
        for flag, default in (
            ("--model", str(model)), ("--input-tokens", "24"), ("--output-tokens", "16"), ("--max-batch-size", "48"),
            ("--max-num-batched-tokens", "512"), ("--min-window-seconds", "0.25"), ("--max-window-seconds", "1"),
            ("--poll-seconds", "0.02"), ("--hang-seconds", "1"), ("--startup-timeout-seconds", "20"),
        ):  # fmt: skip
            if flag not in given and not (flag == "--input-tokens" and "--dataset" in given):
                given += [flag, default]
        status = cli.main(["profile", *given, "--", *light_command, *(engine or [])])
        lines = capsys.readouterr().out.splitlines()
        return Run(status, [json.loads(line) for line in lines])

    return run
