"""The whole command against the light engine: what it finds, and what it says when things go wrong."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import parse_document
from slm_core.engines.registry import default
from slm_core.failure import EXIT_STATUS, REMEDY, Failure
from slm_core.measurements import SharingMode
from slm_core.slo import Slo
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_runtime import cli

TESTS = Path(__file__).parents[2]
Profile = Callable[..., Any]


def leftovers() -> list[str]:
    """Light engines that this process or its profile has started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes()
                if b"light_engine" in words and f"SLM_TEST={os.getpid()}".encode() in environment:
                    found.append(b" ".join(words).decode())
    return found


@pytest.mark.slow
def test_one_engine_is_swept_and_obeys_its_law(profile: Profile, tmp_path: Path) -> None:
    output = tmp_path / "measurements.json"
    run = profile("--max-engines-per-gpu", "1", "--output", str(output))
    assert run.status == 0, run.events[-1]
    document = parse_document(run.one("result")["document"])
    assert document == parse_document(json.loads(output.read_text()))
    assert {1, 32} <= {p.batch_size for p in document.points}
    assert len(run.all("point")) == len(document.points)
    # The light engine's law, with the settings of these tests: ITL = 8 ms + 0.1 ms x sequences that run, on its own clock.
    # A busy machine may leave places empty, so what is certain is between none and all of them.
    for point in document.points:
        assert 8 <= point.itl_ms.mean_ms <= (8 + 0.1 * point.batch_size) * 1.05
        if not point.marks:  # its throughput, by the wall clock, agrees with its latency
            assert point.output_tokens_per_second * point.itl_ms.mean_ms / 1000 <= point.batch_size * 1.1
    assert document.ledger is not None
    assert document.ledger.kv_bytes_per_token == 4096
    assert document.gpu.product == "CPU"
    assert not leftovers()


@pytest.mark.slow
def test_a_whole_profile_measures_packs_too(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a cluster whose GPUs are stand-ins, which its administrator has said.
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "GPU-stand-in")
    stand_in = ("--device", "cpu", "--gpu-product", "NVIDIA-L4", "--cpus-per-engine", "2")
    run = profile("--slo-itl-factor", "2", "--max-engines-per-gpu", "2", *stand_in)
    assert run.status == 0, run.events[-1]
    document = parse_document(run.one("result")["document"])
    assert document.complete
    packs = [p for p in document.points if p.replicas == 2]
    assert packs[-1].sharing_mode is SharingMode.TIME_SLICING
    assert packs[-1].kv_pool_bytes is not None
    name, modes = (note["message"] for note in run.all("note"))
    assert "the CPU is measured under the name of NVIDIA-L4" in name
    assert "MPS is not measured" in modes
    assert not leftovers()


@pytest.mark.slow
def test_a_load_named_by_rate_is_measured_at_what_it_comes_to(profile: Profile) -> None:
    """ITL = 8 ms + 0.1 ms x sequences: a rate that a few of 32 sequences serve."""
    run = profile("--requests-per-second", "20", "--max-engines-per-gpu", "1")
    assert run.status == 0, run.events[-1]
    document = parse_document(run.one("result")["document"])
    load = document.workload.concurrency
    assert document.workload.requests_per_second == 20
    assert load is not None
    assert [p for p in document.points if p.in_flight == load]
    assert advise(document, Slo(itl_ms=1000), Settings(requests_per_second=20)).load.in_flight == load


BAD_ENGINES = [
    ("die-at-start", Failure.MEMORY, "out of memory"),
    ("answers-errors", Failure.ANSWERS_ERRORS, "answered 500"),
    ("no-metrics", Failure.METRICS, "/metrics answers 404"),
    ("renamed-metrics", Failure.METRICS, "lacks vllm:"),
    ("die-at:1", Failure.DIED, "illegal memory access"),
    ("die-slowly-at:1", Failure.DIED, "illegal memory access"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "failure", "words"), BAD_ENGINES, ids=[f for f, _, _ in BAD_ENGINES])
def test_a_bad_engine_is_named_in_one_line_with_a_remedy(
    profile: Profile, fault: str, failure: Failure, words: str
) -> None:
    run = profile(fault=fault)
    said = run.one("failed")
    assert said["class"] == failure
    assert words in said["message"]
    assert "\n" not in said["message"]
    assert said["remedy"] == (REMEDY | dict(default().remedies))[failure]
    assert run.status == said["exitStatus"] == EXIT_STATUS[failure]
    assert run.events[-1] == said
    assert not leftovers()


@pytest.mark.slow
@pytest.mark.parametrize(
    "odd",
    [{"text_config": None}, {"num_key_value_heads": [4] * 4}, {"vocab_size": "512", "max_position_embeddings": {}}],
)
def test_odd_model_config_is_left_to_the_engine(profile: Profile, model: Path, odd: dict[str, Any]) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | odd))
    run = profile("--max-engines-per-gpu", "1", "--max-batch-size", "1")
    assert run.events[-1]["event"] in ("result", "failed")
    assert run.events[-1].get("class") != Failure.INTERNAL
    assert not leftovers()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die-at:20", "die-slowly-at:20"])
def test_an_engine_that_dies_leaves_what_was_measured(profile: Profile, fault: str) -> None:
    run = profile("--max-engines-per-gpu", "1", fault=fault)
    document = parse_document(run.one("result")["document"])
    assert 1 <= max(p.batch_size for p in document.points) < 20
    assert not document.complete
    assert "the engine died" in document.incomplete_because
    assert run.status == EXIT_STATUS[Failure.DIED]


@pytest.mark.slow
def test_an_engine_that_hangs_leaves_what_was_measured(profile: Profile) -> None:
    run = profile("--max-engines-per-gpu", "1", "--hang-seconds", "2", fault="hang-at:20")
    document = parse_document(run.one("result")["document"])
    assert 1 <= max(p.batch_size for p in document.points) < 20
    assert "no token for" in document.incomplete_because
    assert run.status == EXIT_STATUS[Failure.HANGS]
    assert not leftovers()


@pytest.mark.slow
def test_an_engine_that_never_becomes_healthy_is_given_up(profile: Profile) -> None:
    run = profile("--startup-timeout-seconds", "0.5", fault="never-healthy")
    assert run.status == EXIT_STATUS[Failure.NEVER_HEALTHY]
    assert "/health did not answer within" in run.one("failed")["message"]
    assert not leftovers()


@pytest.mark.slow
def test_an_engine_that_ignores_sigterm_is_killed(profile: Profile) -> None:
    run = profile("--max-engines-per-gpu", "1", fault="ignores-sigterm")
    assert run.status == 0
    assert not leftovers()


Case = tuple[list[str], list[str], Failure, str]


def bad_input(tmp_path: Path) -> dict[str, Case]:
    """Name: our words, the engine's words, class of failure, words of the message. Files are made by `_make_files`."""
    none: list[str] = []
    return {
        "missing model": (["--model", "/no/such/model"], none, Failure.MODEL, "no such folder"),
        "no configuration": (["--model", str(tmp_path / "empty")], none, Failure.MODEL, "has no config.json"),
        "corrupt configuration": (["--model", str(tmp_path / "corrupt")], none, Failure.MODEL, "not a JSON object"),
        "unknown engine flag": (none, ["--frobnicate"], Failure.ARGUMENTS, "--frobnicate"),
        "no memory for one sequence": (["--max-model-len", "100000000"], none, Failure.MEMORY, "one sequence of"),
        "dataset is missing": (["--dataset", str(tmp_path / "none.json")], none, Failure.WORKLOAD, "No such file"),
        "dataset is not JSON": (
            ["--dataset", str(tmp_path / "prose.json")],
            none,
            Failure.WORKLOAD,
            "neither JSON nor CSV",
        ),
        "dataset of another format": (["--dataset", str(tmp_path / "other.json")], none, Failure.WORKLOAD, "ShareGPT"),
        "dataset too long": (["--dataset", str(tmp_path / "long.json")], none, Failure.WORKLOAD, "not fit into 2048"),
        "lengths too long": (["--input-tokens", "4000"], none, Failure.WORKLOAD, "1 of 1 requests of fixed 4000 in"),
        "lengths that are no lengths": (["--input-tokens", "many"], none, Failure.WORKLOAD, "none of N, lognormal"),
        "budget below one point": (["--max-gpu-minutes", "0.005"], none, Failure.BUDGET, "budget of 0.005"),
        "output nowhere": (["--output", "/no/such/folder/m.json"], none, Failure.DISK, "cannot be written"),
    }


def _make_files(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "corrupt").mkdir()
    (folder / "corrupt" / "config.json").write_text("{not json")
    (folder / "prose.json").write_text("once upon a time")
    (folder / "other.json").write_text('[{"text": "hello"}]')
    turns = [{"from": "human", "value": "x" * 3000}, {"from": "gpt", "value": "y" * 30}]
    (folder / "long.json").write_text(json.dumps([{"conversations": turns}] * 3))


NEEDS_AN_ENGINE = ("unknown engine flag", "dataset too long", "lengths too long", "budget below one point")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c in NEEDS_AN_ENGINE)) for c in bad_input(Path("/any"))]
)
def test_bad_input_is_named_in_one_line_with_a_remedy(profile: Profile, tmp_path: Path, case: str) -> None:
    _make_files(tmp_path)
    words, engine, failure, text = bad_input(tmp_path)[case]
    run = profile(*words, engine=engine)
    said = run.one("failed")
    assert (said["class"], run.status) == (failure, EXIT_STATUS[failure]), said
    assert text in said["message"]
    assert not run.all("result")


@pytest.mark.slow
def test_a_dataset_gives_the_lengths(profile: Profile, tmp_path: Path) -> None:
    turns = [
        {"from": "system", "value": "s" * 7},
        {"from": "human", "value": "x" * 12},
        {"from": "gpt", "value": "y" * 12},
    ]
    bad = [{"from": "human", "value": "\ud83d"}, {"from": "gpt", "value": "y"}]
    dataset = tmp_path / "chats.json"
    dataset.write_text(json.dumps([{"conversations": bad}, *[{"conversations": turns}] * 5]))
    run = profile("--dataset", str(dataset), "--max-engines-per-gpu", "1")
    document = parse_document(run.one("result")["document"])
    assert (document.workload.input_tokens_mean, document.workload.output_tokens_mean) == (20, 12)
    assert document.workload.source.startswith("chats.json sha256:")
    assert document.workload.source.endswith("(skipped: 1 whose text cannot be read)")
    assert document.workload.source in " ".join(note["message"] for note in run.all("note"))


@pytest.mark.slow
def test_a_trace_gives_the_lengths_that_it_counts(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2023-11-16 18:15:46,20,12\n" * 5)
    run = profile("--dataset", str(tmp_path / "trace.csv"), "--max-engines-per-gpu", "1")
    workload = parse_document(run.one("result")["document"]).workload
    assert (workload.input_tokens_mean, workload.output_tokens_mean) == (20, 12)


@pytest.mark.slow
def test_a_port_in_the_engine_arguments_does_no_harm(profile: Profile) -> None:
    assert profile("--max-engines-per-gpu", "1", engine=["--port", "1"]).status == 0


def test_a_command_that_does_not_exist_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["profile", "--model", str(model), "--", "/no/such/engine"])
    assert status == EXIT_STATUS[Failure.COMMAND]
    assert "/no/such/engine cannot be started" in capsys.readouterr().out


@pytest.mark.slow
def test_sigterm_leaves_a_document_and_no_engine(model: Path) -> None:
    words = [sys.executable, "-m", "slm_runtime", "profile", "--model", str(model), "--input-tokens", "24"]
    words += ["--output-tokens", "32", "--min-window-seconds", "0.2", "--poll-seconds", "0.02", "--", sys.executable]
    started = subprocess.Popen(
        [*words, "-m", "light_engine"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS), "SLM_TEST": str(os.getpid())},
    )
    events = []
    with started:
        for line in started.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "point" and len([e for e in events if e["event"] == "point"]) == 2:
                started.send_signal(signal.SIGTERM)
                started.send_signal(signal.SIGTERM)  # an impatient second one changes nothing
    assert started.returncode == EXIT_STATUS[Failure.INTERRUPTED]
    document = parse_document(next(e["document"] for e in events if e["event"] == "result"))
    assert document.incomplete_because == "interrupted by SIGTERM"
    # What is doubtful is measured again, so on a busy machine the second point may be B = 1 as well.
    assert {p.batch_size for p in document.points[:2]} <= {1, 32}
    assert len(document.points) == len(
        [e for e in events if e["event"] == "point"]
    )  # one more may be done before it hears
    assert not leftovers()


@pytest.mark.slow
def test_a_full_disk_costs_the_file_and_not_the_document(profile: Profile, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of one page: the folder can be written to, the document does not fit.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)], check=True)
    try:
        (disk / "ballast").write_bytes(b"x" * 4096)
        run = profile("--max-engines-per-gpu", "1", "--output", str(disk / "measurements.json"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert run.status == EXIT_STATUS[Failure.DISK]
    assert "No space left" in run.one("failed")["message"]
    assert run.one("result")["document"]["complete"]
