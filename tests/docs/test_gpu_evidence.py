"""What is said of GPUs is what one has said: until then, that none has."""

import re
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.gpu_stages.evidence import KEPT, NOT_YET, STAGES, kept_runs, of_gpus, page, record
from tests.docs.pages import ROOT

RUNS = kept_runs()
MACHINE = {
    "kind": "gpu", "product": "NVIDIA-H200", "driver": "580.1", "cuda": 13000, "memory_bytes": 141 * 2**30,
    "compute_mode": "DEFAULT", "power_limit_watts": 700.0, "cpus": 16, "versions": {"vllm": "0.26.0"}, "commit": "abc123",
}  # fmt: skip
FIGURES = {
    "points": [
        {"b": 1, "r": 1, "tokens_per_second": 210.0},
        {"b": 256, "r": 2, "marks": ["Wide"], "kv_pool_bytes": 2**31},
    ],
    "board_at_1": {"b": 1, "window_seconds": 8.0, "slowed_share": {"SwPowerCap": 0.97}},
    "gain": {"gain_fraction": 0.236},
}


Record, Lack, State = record.Record, record.Lack, record.State


def a_record(**values: Any) -> Any:
    given = {"stage": "packs", "machine": MACHINE, "began": "2026-01-01T00:00:00Z", "seconds": 61.0, "complete": True}
    return Record(**given | values)


@pytest.mark.parametrize("name", ["README.md", "docs/how-to/install.md", "docs/reference/gpu-evidence.md"])
def test_pages_say_no_gpu_ran_this_until_evidence_is_kept(name: str) -> None:
    assert (NOT_YET in (ROOT / name).read_text()) == (not of_gpus(RUNS))


def faults(one: Any, text: str) -> list[str]:
    """What forbids keeping a record."""
    found = [] if one.machine["kind"] == "gpu" else ["it is not of a GPU"]
    found += [] if one.machine["commit"] else ["its commit is not recorded"]
    return found + re.findall(r"/(?:home|root|tmp|work|opt|mnt|var)/\S*", text)


def test_kept_evidence_is_of_a_gpu_and_names_no_folder() -> None:
    bad = a_record(machine=MACHINE | {"kind": "mock", "commit": None})
    assert faults(bad, '"/root/x"') == ["it is not of a GPU", "its commit is not recorded", '/root/x"']
    kept = [(one, (KEPT / run / f"{one.stage}.json").read_text()) for run, records in RUNS.items() for one in records]
    assert [(one.stage, faults(one, text)) for one, text in kept if faults(one, text)] == []


def test_every_stage_and_its_time_are_reported() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) s \|", (ROOT / "benchmarks/gpu.md").read_text(), re.MULTILINE)
    assert rows == [(stage.name, f"{stage.most_seconds:.0f}") for stage in STAGES]


def test_every_wheel_has_its_size() -> None:
    """The list that pip reads, and the table that a person reads."""
    lines = (ROOT / "benchmarks/gpu_wheels.txt").read_text().splitlines()
    listed = {tuple(line.split("==")) for line in lines if not line.startswith("#")}
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| ([\w.]+) \| ([\d.]+) \|$", (ROOT / "benchmarks/gpu.md").read_text(), re.MULTILINE
    )
    assert {(name, version) for name, version, _ in rows} == listed
    assert (
        f"{len(rows)} files, {sum(float(size) for *_, size in rows):.0f} MB" in (ROOT / "benchmarks/gpu.md").read_text()
    )


def test_figures_stand_with_their_machine_and_commit() -> None:
    text = page({"2026-01-01": [a_record(figures=FIGURES)]})
    assert "## NVIDIA-H200, 2026-01-01" in text
    assert (
        "Driver 580.1, CUDA 13000, 141.00 GiB, compute mode DEFAULT, power limit 700 W; 16 CPUs; vllm 0.26.0; commit abc123;"
        in text
    )
    assert "| b | r | tokens per second | marks | kv pool (GiB) |" in text
    assert "| 256 | 2 | - | Wide | 2.00 |" in text
    assert "| board at 1 | 1 | 8 | 0.97 |" in text
    assert "| gain, gain (%) | 23.6 |" in text
    assert NOT_YET not in text


def test_evidence_page_names_what_is_lacking() -> None:
    lack = Lack(state=State.FAILED, why="the daemon | refuses")
    one = a_record(complete=False, incomplete_because="its 240 s were over", lacking={"quit_idle": lack})
    text = page({"x": [one]})
    assert "61 s, **incomplete**: its 240 s were over." in text
    assert "| quit idle | failed: the daemon \\| refuses |" in text


def test_a_stage_that_went_on_with_another_commit_says_so() -> None:
    later = replace(a_record(stage="decode"), machine=MACHINE | {"commit": "def456"})
    assert page({"x": [a_record(), later]}).count("commit") == 2
    assert page({"x": [a_record(), a_record(stage="decode")]}).count("commit") == 1


def test_only_gpus_are_shown() -> None:
    others = [a_record(machine=MACHINE | {"kind": kind}) for kind in ("cpu", "mock")]
    assert of_gpus({"x": others}) == {}
    assert f"{NOT_YET}." in page(of_gpus({"x": others}))
