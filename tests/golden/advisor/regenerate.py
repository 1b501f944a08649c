"""The explanations of the published data, as golden files.

One source: the values of `advise`, printed plainly. `write_golden()` writes them all; the test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.candidates import CheckName
from slm_core.measurements import SharingMode
from slm_core.slo import Slo
from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise

from tests.builders import SWEEP, SWEEP_AND_PACKS, published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slm_core.candidates import Candidate, Check
    from slm_operator.advisor.advice import Advice

FOLDER = Path(__file__).parent

CASES: dict[str, tuple[str, tuple[str, ...], Slo, Settings]] = {
    "opt-1.3b-strict": ("opt-1.3b", SWEEP, Slo(itl_factor=2), Settings()),
    "opt-1.3b-relaxed": ("opt-1.3b", SWEEP, Slo(itl_factor=4), Settings()),
    "opt-1.3b-impossible": ("opt-1.3b", SWEEP, Slo(itl_ms=3), Settings()),
    "opt-1.3b-packs": ("opt-1.3b", SWEEP_AND_PACKS, Slo(), Settings()),
    "opt-1.3b-packs-relaxed": ("opt-1.3b", SWEEP_AND_PACKS, Slo(itl_factor=4), Settings()),
    "opt-1.3b-thin-load": ("opt-1.3b", SWEEP_AND_PACKS, Slo(), Settings(concurrency=50)),
    "opt-1.3b-free-memory": (
        "opt-1.3b", SWEEP_AND_PACKS, Slo(itl_factor=4), Settings(objective=Objective.FREE_MEMORY),
    ),
    "opt-1.3b-user-4-measured": ("opt-1.3b", SWEEP_AND_PACKS, Slo(), Settings(engines_per_gpu=4)),
    "opt-1.3b-user-3-unmeasured": ("opt-1.3b", SWEEP_AND_PACKS, Slo(itl_factor=2), Settings(engines_per_gpu=3)),
    "opt-1.3b-user-time-slicing": (
        "opt-1.3b", SWEEP, Slo(itl_factor=2), Settings(engines_per_gpu=2, mode=SharingMode.TIME_SLICING),
    ),
    "opt-2.7b-packs": ("opt-2.7b", SWEEP_AND_PACKS, Slo(), Settings()),
    "opt-2.7b-packs-relaxed": ("opt-2.7b", SWEEP_AND_PACKS, Slo(itl_factor=4), Settings()),
    "llama-2-7b-relaxed": ("llama-2-7b", SWEEP, Slo(itl_factor=4), Settings()),
    "llama-2-7b-user-4": ("llama-2-7b", SWEEP, Slo(itl_factor=4), Settings(engines_per_gpu=4)),
}  # fmt: skip


def explanations() -> dict[Path, str]:
    """File to text of every case."""
    return {
        FOLDER / f"{name}.txt": "\n".join(_lines(advise(published(model, *files), slo, settings))) + "\n"
        for name, (model, files, slo, settings) in CASES.items()
    }


def write_golden() -> None:
    """Write every file, and remove those that no case writes."""
    files = explanations()
    for stale in set(FOLDER.glob("*.txt")) - set(files):
        stale.unlink()
    for path, text in files.items():
        path.write_text(text)


def _lines(advice: Advice) -> Iterator[str]:
    yield from advice.sentences
    yield ""
    yield _row("verdict", "B", "R", "mode", "tokens/s", "ITL ms", *(name.value for name in _FIGURES), "decided by")
    yield from (_of(candidate) for candidate in advice.candidates)
    for candidate in advice.candidates:
        if candidate.chosen:
            yield ""
            yield f"Checks of the chosen, B={candidate.point.batch_size} x {candidate.point.replicas}:"
            yield from (f"  {check.name}: {check.because}" for check in candidate.checks)
    yield ""
    yield "Pareto frontier: " + ", ".join(f"{p.batch_size} x {p.replicas}" for p in advice.pareto_frontier)


def _of(candidate: Candidate) -> str:
    """What every candidate is told apart by, and the one check that says what became of it."""
    point = candidate.point
    found = {check.name: shown(check) for check in candidate.checks if (shown := _FIGURES.get(check.name))}
    return _row(
        candidate.verdict,
        str(point.batch_size),
        str(point.replicas),
        point.sharing_mode,
        f"{point.throughput_tokens_per_second:,.0f}",
        f"{point.itl_ms.mean_ms:.1f}",
        *(found.get(name, "") for name in _FIGURES),
        f"{candidate.last.name}: {candidate.because}",
    )


_FIGURES: dict[CheckName, Callable[[Check], str]] = {
    CheckName.MEMORY: lambda check: f"{check.value:.2f} / {check.limit:.2f}",
    CheckName.EFFICIENCY: lambda check: f"{check.value:.3f}",
    CheckName.GAIN: lambda check: f"{check.value:+.1%}",
}
"""Checks whose figure says something where they passed too. Memory in GiB: what an engine needs, and may use."""


def _row(*cells: str) -> str:
    """A line of the table."""
    return "{:<9} {:>4} {} {:<12} {:>8} {:>7} {:>14} {:>11} {:>7}  {}".format(*cells)


if __name__ == "__main__":
    write_golden()
