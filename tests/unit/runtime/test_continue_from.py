"""A profile that goes on from a document: which one it believes, what it starts, and what it leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slm_core.codec import parse_document, to_json
from slm_core.failure import EXIT_STATUS, Failure
from slm_core.measurements import Cost, Gpu, Latency, MeasurementDocument
from slm_core.search.continuation import findings_of
from slm_core.search.steps import Findings, Request
from slm_core.slo import Slo
from slm_core.units import GIB
from slm_runtime import host
from slm_runtime.device_checks import CPU
from slm_runtime.document import Documents
from slm_runtime.former import with_former
from slm_runtime.profile import UNFINISHED
from slm_runtime.rig import EngineRig
from slm_runtime.workload import parse_lengths
from unit.runtime_search.searches import document_of, request, rig, search

Profile = Callable[..., Any]
LENGTHS = parse_lengths("24", "16")
QUESTION = request(Slo(itl_factor=4), max_engines=1, max_batch_size=48, max_num_batched_tokens=512)
ONE_ENGINE = ("--max-engines-per-gpu", "1", "--slo-itl-factor", "4")


@pytest.fixture
async def former(model: Path) -> MeasurementDocument:
    """Complete for the question, and of this machine, model and workload."""
    findings, done, _ = await search(QUESTION, rig())
    assert done.complete
    made = document_of(QUESTION, findings)
    return replace(
        made,
        model=replace(made.model, uri=str(model)),
        gpu=Gpu(product=CPU, memory_bytes=host.memory_bytes()),
        workload=LENGTHS.described(None),
        measured_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def file(former: MeasurementDocument, tmp_path: Path) -> Path:
    path = tmp_path / "former.json"
    path.write_text(json.dumps(to_json(former)))
    return path


def test_a_complete_document_starts_no_engine(profile: Profile, file: Path, former: MeasurementDocument) -> None:
    run = profile(*ONE_ENGINE, "--continue-from", str(file), fault="die-at-start")
    assert run.status == 0, run.events[-1]
    assert {e["event"] for e in run.events} <= {"note", "phase", "result"}
    assert [(e["phase"], e["gpuSeconds"]) for e in run.all("phase")] == [("Finished", 0.0)]
    assert parse_document(run.one("result")["document"]) == former


def test_an_answer_at_once_names_the_load_that_is_asked(
    profile: Profile, file: Path, former: MeasurementDocument
) -> None:
    """The document's load is decided for where nobody names one, so a former one must not stay."""
    loaded = replace(former, workload=replace(former.workload, concurrency=7), complete=False, incomplete_because="cut")
    file.write_text(json.dumps(to_json(loaded)))
    document = parse_document(profile(*ONE_ENGINE, "--continue-from", str(file)).one("result")["document"])
    assert document == former


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "another"}', "[" * 100_000, None])
def test_a_file_that_is_no_document_is_named(profile: Profile, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "former.json"
    if text is not None:
        path.write_text(text)
    run = profile("--continue-from", str(path))
    said = run.one("failed")
    assert (run.status, said["class"]) == (EXIT_STATUS[Failure.ARGUMENTS], Failure.ARGUMENTS)
    assert f"--continue-from {path}" in said["message"]
    assert "without --continue-from" in said["remedy"]


def session(model: Path, asked: Request = QUESTION, **more: Any) -> Documents:
    """What a document of this session needs, before anything is done."""
    known: Any = SimpleNamespace(
        kind=asked.engine, lengths=LENGTHS, source=LENGTHS.source, args=(), gpu_seconds=lambda: 30.0,
        download_seconds=lambda: 10.0,
    )  # fmt: skip
    task: Any = SimpleNamespace(
        model_uri=str(model), revision=None, dtype=None, image=None, provenance="a test",
        subject=SimpleNamespace(model=str(model)),
    )  # fmt: skip
    gpu = Gpu(product=CPU, memory_bytes=host.memory_bytes())
    return Documents(task=task, request=asked, rig=known, gpu=gpu, **more)


OTHERS: dict[str, tuple[Callable[[MeasurementDocument], MeasurementDocument], str]] = {
    "GPU": (lambda d: replace(d, gpu=replace(d.gpu, product="NVIDIA-L4")), "another GPU (NVIDIA-L4 with"),
    "memory": (lambda d: replace(d, gpu=replace(d.gpu, memory_bytes=5 * GIB)), "CPU with 5.0 GiB"),
    "model": (lambda d: replace(d, model=replace(d.model, uri="hf://another/one")), "model (hf://another/one)"),
    "revision": (lambda d: replace(d, model=replace(d.model, revision="abc")), " at abc)"),
    "engine": (lambda d: replace(d, engine=replace(d.engine, name="other")), "another engine (other)"),
    "lengths": (lambda d: replace(d, workload=replace(d.workload, source="fixed 2 in, 9 out")), "(fixed 2 in, 9 out)"),
    "means": (lambda d: replace(d, workload=replace(d.workload, input_tokens_mean=25.0)), "another workload"),
    "ledger": (lambda d: replace(d, ledger=None), "without the memory"),
    "many points": (lambda d: replace(d, points=(d.points * 200)[:460]), "no room is left"),
    "figures": (
        lambda d: replace(d, points=tuple(replace(p, itl_ms=Latency(mean_ms=0.0)) for p in d.points)),
        "impossible",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_document_of_another_model_or_gpu_is_measured_anew(
    model: Path, former: MeasurementDocument, other: str
) -> None:
    change, words = OTHERS[other]
    notes: list[str] = []
    assert with_former(session(model), change(former), notes.append).former is None
    (note,) = notes
    assert words in note
    assert note.endswith(": everything is measured anew")


def test_workload_keeps_its_left_out_requests_on_resuming(model: Path, former: MeasurementDocument) -> None:
    left_out = replace(former, workload=replace(former.workload, source=f"{LENGTHS.source} (2 of 9 left out)"))
    assert with_former(session(model), left_out, pytest.fail).former is left_out


def test_sessions_are_one_document(model: Path, former: MeasurementDocument) -> None:
    """Points in order, costs together, and the engine's words where none of the sweep's has run since."""
    spent = Cost(gpu_seconds=300.0, engine_starts=3, startup_seconds=90.0, download_seconds=20.0)
    before = replace(former, cost=spent, engine=replace(former.engine, args=("--sweep",)))
    findings = findings_of(before, QUESTION)
    rebuilt = findings.measured[-1]
    document = session(model, former=before).of(findings.add(rebuilt), "a reason")
    assert document is not None
    assert document.points == (*former.points, rebuilt.point)
    assert document.cost == Cost(gpu_seconds=330.0, engine_starts=3, startup_seconds=90.0, download_seconds=30.0)
    assert (document.complete, document.incomplete_because) == (False, "a reason")
    assert (document.engine.args, document.ledger) == (("--sweep",), former.ledger)
    assert document.measured_at != former.measured_at


def test_no_document_is_there_before_an_engine_runs(model: Path) -> None:
    assert session(model).of(Findings(), None) is None


def test_the_download_is_no_part_of_what_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    held = EngineRig.__new__(EngineRig)
    held._began, held._downloaded_seconds = 100.0, 0.0
    monkeypatch.setattr("slm_runtime.rig.time.monotonic", lambda: 160.0)
    held.add_download(40.0)
    assert (held.gpu_seconds(), held.budget_seconds()) == (60.0, 20.0)
    held.add_download(40.0)
    assert held.budget_seconds() == 0.0


@pytest.mark.slow
def test_a_profile_that_was_cut_short_goes_on(profile: Profile, tmp_path: Path) -> None:
    """From what the last `partial` said, as one does whose pod was taken away."""
    whole = profile(*ONE_ENGINE)
    partials = [parse_document(e["document"]) for e in whole.all("partial")]
    result = parse_document(whole.one("result")["document"])
    assert [len(d.points) for d in partials] == [*range(1, len(result.points) + 1)]
    assert {(d.complete, d.incomplete_because) for d in partials} == {(False, UNFINISHED)}
    assert partials[-1].points == result.points
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(to_json(partials[1])))
    rest = profile(*ONE_ENGINE, "--continue-from", str(path))
    assert rest.status == 0, rest.events[-1]
    document = parse_document(rest.one("result")["document"])
    assert document.complete
    assert document.points[:2] == partials[1].points
    assert len(rest.all("point")) == len(document.points) - 2
    assert partials[1].cost is not None
    assert document.cost is not None
    assert document.cost.engine_starts > partials[1].cost.engine_starts
    path.write_text(json.dumps(to_json(document)))
    again = profile(*ONE_ENGINE, "--continue-from", str(path), fault="die-at-start")
    assert parse_document(again.one("result")["document"]) == document
