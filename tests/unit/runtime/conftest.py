import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slm_runtime import cli

TESTS = Path(__file__).parents[2]
# A stand-in for nvidia-cuda-mps-control that keeps to its commands. Its clients are the living processes that the file
# $MPS_TEST_CLIENTS names; those that it is to let go are noted in $MPS_TEST_LET_GO. $MPS_TEST_SERVER gives it a
# server, which outlives it when it is killed, as NVIDIA's does; $MPS_TEST_DEAF makes it obey nothing but SIGKILL.
MPS_CONTROL = """#!/bin/sh
if [ "$1" = -f ]; then
  [ -n "$MPS_TEST_BROKEN" ] && { echo "Failed to start: no device" > "$CUDA_MPS_LOG_DIRECTORY/control.log"; exit 1; }
  mkfifo "$CUDA_MPS_PIPE_DIRECTORY/control"
  echo $$ > "$CUDA_MPS_PIPE_DIRECTORY/pid"
  if [ -n "$MPS_TEST_SERVER" ]; then
    setsid sh -c 'echo $$ > "$MPS_TEST_SERVER"; while :; do sleep 0.05; done' nvidia-cuda-mps-server &
  fi
  [ -n "$MPS_TEST_DEAF" ] && trap '' TERM || trap 'exit 0' TERM
  while [ -e "$CUDA_MPS_PIPE_DIRECTORY/pid" ]; do sleep 0.05; done
  exit 0
fi
read command rest
case "$command" in
  get_server_list) echo 4711 ;;
  get_client_list) for pid in $(cat "$MPS_TEST_CLIENTS"); do kill -0 "$pid" 2> /dev/null && echo "$pid"; done ;;
  terminate_client) echo "$rest" >> "$MPS_TEST_LET_GO" ;;
  quit) [ -n "$MPS_TEST_DEAF" ] || rm "$CUDA_MPS_PIPE_DIRECTORY/pid" ;;
esac
"""
OPT_TINY = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "hidden_size": 256,
    "ffn_dim": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "vocab_size": 512,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where engines and daemons keep their files: a folder of the test's own, which every test must leave empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield
    assert not list(folder.iterdir())


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
            ("--poll-seconds", "0.02"), ("--hang-seconds", "20"), ("--startup-timeout-seconds", "60"),
        ):  # fmt: skip
            if flag not in given and not (flag == "--input-tokens" and "--dataset" in given):
                given += [flag, default]
        status = cli.main(["profile", *given, "--", *light_command, *(engine or [])])
        lines = capsys.readouterr().out.splitlines()
        return Run(status, [json.loads(line) for line in lines])

    return run


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(built), str(TESTS / "mock_nvml" / "nvml.c")],
        check=True,
    )
    return built


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-cuda-mps-control"
    program.write_text(MPS_CONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
