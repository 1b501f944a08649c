"""The profiler against the real vLLM on CPU, run as in a profile Job: the zipapp under the engine's own Python.

Two cores are enough for "one engine does not fill the machine, two do". Figures are this machine's; what is tested is
that they agree with each other, with an exhaustive sweep, and with what the engine says.
"""

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pytest
from slm_runtime.bca import choose
from slm_runtime.codec import parse_document
from slm_runtime.document import MeasurementDocument, Point, SharingMode
from slm_runtime.failure import EXIT_STATUS, Failure
from slm_runtime.fit import fit_line
from slm_runtime.slo import Slo, resolve

from tests.testbed.engine_cpu import CPU_ENV, python
from tests.testbed.tiny_model import tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
SLO = Slo(itl_ms=13.0)
"""About twice the ITL of B = 32 here. Absolute, so that two profiles are asked the same question."""
ENGINE = ["-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
ENGINE_LIMITS = ("--max-model-len", "512", "--dtype", "bfloat16")
SWEPT_SIZES = "32,48,56,64,68,72,76,80,84,96"
TRIES = 2
"""Second profiles: one may meet other work on this machine."""
WHOLE_SECONDS = 360
"""Of a profile with packs of two, engine starts included."""
QUESTION = [
    *("--input-tokens", "32", "--output-tokens", "128", "--slo-itl-ms", "13", "--max-batch-size", "128"),
    *("--max-num-batched-tokens", "1024", "--max-window-seconds", "12", "--max-gpu-minutes", "12"),
]


@dataclass(frozen=True, slots=True)
class Run:
    """What one profile said."""

    status: int
    events: list[dict[str, object]]

    @property
    def document(self) -> MeasurementDocument:
        return parse_document(next(e["document"] for e in self.events if e["event"] == "result"))

    @property
    def failed(self) -> dict[str, object]:
        return next(e for e in self.events if e["event"] == "failed")


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("runtime") / "slm_runtime.pyz"
    subprocess.run([str(ROOT / ".venv/bin/python"), str(ROOT / "hack/zipapp.py"), str(built)], check=True)
    return built


def profile(runtime: Path, model: Path, *words: str, engine: tuple[str, ...] = ()) -> Run:
    command = [str(python()), str(runtime), "profile", "--model", str(model), *QUESTION, *words]
    command += ["--", str(python()), *ENGINE, *engine]
    done = subprocess.run(command, env=os.environ | CPU_ENV, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr[-3000:]
    return Run(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])


def left_behind() -> set[str]:
    """Shared memory, folders and engines that are here now."""
    found = {str(p) for folder in ("/dev/shm", "/tmp") for p in Path(folder).glob("[ps][sl]m[_-]*")}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            words = (entry / "cmdline").read_bytes()
            if b"api_server" in words or words.startswith(b"VLLM"):
                found.add(f"process {entry.name}")
    return found


def best_single(document: MeasurementDocument) -> Point:
    """What the published advisor chooses among the single engines of a document."""
    singles = [point for point in document.points if point.replicas == 1]
    chosen = choose(singles, resolve(SLO, singles), 0.1).chosen
    assert chosen, document
    return chosen.point


@dataclass(frozen=True, slots=True)
class Swept:
    """One step of an exhaustive sweep; tokens per second."""

    batch_size: int
    throughput: float
    ci_fraction: float
    itl_ms: float


def exhaustive_sweep() -> list[Swept]:
    """One engine at every size of a grid, by `sweep.py`."""
    words = [str(python()), str(Path(__file__).with_name("sweep.py")), str(tiny_model()), SWEPT_SIZES, "12"]
    env = os.environ | CPU_ENV | {"PYTHONPATH": str(ROOT / "runtime")}
    done = subprocess.run([*words, str(python()), *ENGINE, *ENGINE_LIMITS], env=env, capture_output=True, check=True)
    return [
        Swept(p["batchSize"], p["throughputTokensPerSecond"], p["throughputCiFraction"] or 0.0, p["itlMeanMs"])
        for p in map(json.loads, done.stdout.splitlines())
    ]


@pytest.fixture(scope="session")
def whole(runtime: Path) -> Run:
    """One whole profile with packs of two."""
    return profile(runtime, tiny_model(), "--max-replicas", "2", engine=ENGINE_LIMITS)


def test_a_whole_profile_ends_with_a_pack_within_its_time(whole: Run) -> None:
    document = whole.document
    assert whole.status == 0, whole.events[-1]
    assert document.complete, document.incomplete_because
    assert document.cost is not None
    print(f"profile: {document.cost.gpu_seconds:.0f} s, of which {document.cost.startup_seconds:.0f} s start-ups")
    assert document.cost.gpu_seconds <= WHOLE_SECONDS
    assert [p.batch_size for p in document.points[:2]] == [1, 32]
    assert any(p.replicas == 2 and p.sharing_mode is SharingMode.TIME_SLICING for p in document.points)
    assert document.engine.version == "0.32.0"
    assert document.ledger is not None
    assert document.ledger.kv_bytes_per_token == 2 * 4 * 256 * 2  # key and value, layers, hidden size, bfloat16


def test_more_sequences_give_more_throughput_and_more_latency(whole: Run) -> None:
    one, reference = whole.document.points[:2]
    assert reference.throughput_tokens_per_second > 2 * one.throughput_tokens_per_second
    assert reference.itl_ms.mean_ms > one.itl_ms.mean_ms
    assert reference.preemptions == reference.errors == 0
    assert 0 < reference.kv_peak_fraction < 1


def test_the_window_saw_the_lengths_that_were_asked_for(whole: Run) -> None:
    for point in whole.document.points:
        assert point.input_tokens_mean == pytest.approx(32, rel=0.02)
        assert point.output_tokens_mean == pytest.approx(128, rel=0.25)


@pytest.mark.slow
def test_a_second_profile_agrees_with_the_first(runtime: Path, whole: Run) -> None:
    before, first = left_behind(), best_single(whole.document)
    differences = []
    for _ in range(TRIES):
        again = profile(runtime, tiny_model(), "--max-replicas", "1", engine=ENGINE_LIMITS).document
        assert left_behind() <= before
        differences.append(difference(first, best_single(again)))
        print(differences[-1])
        if differences[-1].agrees:
            return
    pytest.fail(f"no other profile agrees with the first: {differences}")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two choices for the same question."""

    batch_sizes: tuple[int, int]
    throughput_fraction: float
    """Difference over the first's."""
    noise_fraction: float
    """Both intervals together: what the windows themselves call noise."""

    @property
    def agrees(self) -> bool:
        one, other = self.batch_sizes
        neighbours = abs(one - other) <= one * (0.05 + 2 * self.noise_fraction)
        return neighbours and self.throughput_fraction <= 0.05 + self.noise_fraction


def difference(first: Point, second: Point) -> Difference:
    one, other = first.throughput_tokens_per_second, second.throughput_tokens_per_second
    return Difference(
        batch_sizes=(first.batch_size, second.batch_size),
        throughput_fraction=abs(one - other) / one,
        noise_fraction=(first.throughput_ci_fraction or 0) + (second.throughput_ci_fraction or 0),
    )


@pytest.mark.slow
def test_an_exhaustive_sweep_finds_nothing_better(whole: Run) -> None:
    """One step of a sweep is as noisy as one point of a profile, so a line through all of them is what is compared."""
    swept = exhaustive_sweep()
    itl_ms = fit_line([float(p.batch_size) for p in swept], [p.itl_ms for p in swept], [1.0] * len(swept))
    turn = fit_line(
        [float(p.batch_size) for p in swept], [p.batch_size / p.throughput for p in swept], [1.0] * len(swept)
    )
    assert SLO.itl_ms
    feasible = [p.batch_size for p in swept if itl_ms.at(p.batch_size) <= SLO.itl_ms]
    best = max(size / turn.at(size) for size in feasible)
    chosen = best_single(whole.document).batch_size
    reached = chosen / turn.at(chosen) / best
    noise = fmean(p.ci_fraction for p in swept)
    print(f"B={chosen}: {reached:.3f} of the best of {feasible} under the SLO, windows are within {noise:.3f}")
    assert reached >= 0.98 - noise


@pytest.mark.slow
def test_corrupt_weights_are_named(runtime: Path, tmp_path: Path) -> None:
    model = tmp_path / "cut-short"
    shutil.copytree(tiny_model(), model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = profile(runtime, model)
    assert (run.status, run.failed["class"]) == (EXIT_STATUS[Failure.MODEL], Failure.MODEL), run.failed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "failure"),
    [
        (("--dtype", "float17"), Failure.ARGUMENTS),
        (("--max-model-len", "999999"), Failure.ARGUMENTS),
    ],
    ids=["a dtype that is none", "longer than the model was made for"],
)
def test_arguments_that_the_engine_refuses_are_named(runtime: Path, words: tuple[str, ...], failure: Failure) -> None:
    run = profile(runtime, tiny_model(), engine=words)
    assert (run.status, run.failed["class"]) == (EXIT_STATUS[failure], failure), run.failed
