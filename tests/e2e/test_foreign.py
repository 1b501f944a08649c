"""A recorded run: advice for the real engine in a Deployment that is not ours, from its profile to an exhaustive sweep of it.

    make record foreign

The Deployment is started badly and measured; the operator measures a profile that `kubectl slm advise` wrote; the patch that it
advises is applied by kubectl, and the same load is put on what comes of it. Every batch of a grid is too, in the same Deployment,
in rounds, every second one backwards.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.foreign.sweep import REACHES, Story, ratio, steps

from .foreign import (
    BAD,
    ITL_FACTOR,
    LOAD,
    MANIFESTS,
    NAME,
    NAMESPACE,
    QUESTION,
    ROUNDS,
    kubectl,
    loaded,
    manifest,
    measure,
    measured,
    place,
    profile_name,
    scale,
    slm,
    wait_until_rolled_out,
)

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.record, pytest.mark.timeout(5400)]

GRID = (1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128)
PATCHED = "patched"


@pytest.fixture(scope="module")
def kept(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that was counted and decided, kept for the record."""
    folder = tmp_path_factory.mktemp("foreign")
    with place(stage, folder):
        found = followed(stage, folder)
    if record := os.environ.get("SLM_RECORD"):
        Path(record).write_text(json.dumps(found, indent=1) + "\n")
    return found


def followed(stage: Stage, folder: Path) -> dict[str, Any]:
    """The page, in order. NB: one engine at a time has the machine, or it measures its neighbour."""
    bad = measured_in_turn(stage, {BAD: manifest(BAD)})[BAD]
    scale(stage, 0)
    advised = measure(stage)
    scale(stage, 1)
    exported = slm(stage, "profile", "export", profile_name(stage))
    (folder / "profile.yaml").write_text(exported)
    decisions = {kind: decision(stage, str(folder / "profile.yaml"), file) for kind, file in MANIFESTS.items()}
    batch, patched = apply_patch(stage, folder / "patch.json")
    engines = {size: manifest(size) for size in sorted({*GRID, batch})}
    seen = measured_in_turn(stage, {**engines, PATCHED: patched}, {PATCHED: batch})
    return {
        "itlFactor": ITL_FACTOR,
        "document": measured(stage)["status"]["measurements"],
        "advised": {"status": advised, "cluster": batch, **decisions},
        "bad": bad,
        "patched": seen[PATCHED],
        "sweep": [seen[size] for size in engines],
    }


def measured_in_turn(
    stage: Stage, engines: dict[Any, dict[str, Any]], batches: dict[Any, int] | None = None
) -> dict[Any, dict[str, Any]]:
    """Engine to what it did with full batches, in each round. A number is its own batch."""
    sizes = {name: (batches or {}).get(name, name) for name in engines}
    found: dict[Any, dict[str, Any]] = {name: {"batchSize": sizes[name], "windows": []} for name in engines}
    for number in range(ROUNDS):
        for name in list(engines)[:: -1 if number % 2 else 1]:
            stage.apply(engines[name])
            wait_until_rolled_out(stage)
            found[name]["windows"] += loaded(stage, [sizes[name]])
            print(f"round {number + 1} of {ROUNDS}: {name}", flush=True)
    return found


def decision(stage: Stage, profile: str, workload: Path) -> int:
    """The batch that is advised for a workload in a file, from the exported profile."""
    said = slm(stage, "advise", "--for", str(workload), "-f", profile, *QUESTION, "--output", "json")
    return int(json.loads(said)["flags"]["--max-num-seqs"])


def apply_patch(stage: Stage, file: Path) -> tuple[int, dict[str, Any]]:
    """As the page says it: the patch from the cluster's own profile, applied by kubectl. The batch that runs then, and the manifest."""
    file.write_text(slm(stage, "advise", "--for", f"deploy/{NAME}", *QUESTION, *LOAD, "--output", "json-patch"))
    kubectl(stage, "patch", f"deploy/{NAME}", "--type", "json", "--patch-file", str(file))
    wait_until_rolled_out(stage)
    (container,) = stage.get("deploy", NAME, NAMESPACE)["spec"]["template"]["spec"]["containers"]
    (flag,) = (one for one in container["args"] if one.startswith("--max-num-seqs"))
    patched = manifest(BAD)
    patched["spec"]["template"]["spec"]["containers"][0]["args"] = container["args"]
    return int(flag.partition("=")[2]), patched


@pytest.fixture(scope="module")
def story(kept: dict[str, Any]) -> Story:
    """What was kept, shown whatever is judged of it."""
    found = Story(kept)
    print("", *steps(found), sep="\n")
    return found


def test_every_way_to_ask_gives_the_same_decision(kept: dict[str, Any]) -> None:
    assert len(set(kept["advised"].values())) == 1, kept["advised"]


def test_the_engine_was_started_badly(story: Story) -> None:
    assert not story.keeps(story.bad) or ratio(story.bad.full, story.best.full) < 0.85


def test_the_advised_patch_reaches_the_best_of_a_sweep(story: Story) -> None:
    print(f"B={story.patched.batch_size} reaches {story.reached:.1%} of B={story.best.batch_size}")
    assert story.reached >= REACHES or story.reached * (1 + story.chance_fraction) >= 1


def test_the_patched_engine_keeps_the_slo(story: Story) -> None:
    itl_ms, limit_ms = story.patched.full.itl_ms, story.limits.itl_ms
    assert limit_ms is not None
    print(f"mean ITL {itl_ms:.1f} ms, limit {limit_ms:.1f} ms")
    assert itl_ms <= limit_ms * (1 + (story.patched.full.ci_fraction or 0))
